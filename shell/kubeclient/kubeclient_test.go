package kubeclient_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

// watched is an object of each kind, watched under one health, whose data under "key" are counted as they change.
type watched struct {
	health    *kubeclient.Health
	secret    *kubeclient.Object[string]
	configMap *kubeclient.Object[string]
	changes   map[string]*atomic.Int32
}

func watchBoth(t *testing.T, api *kubetest.Server, log *kubetest.Log) *watched {
	t.Helper()
	w := &watched{changes: map[string]*atomic.Int32{"secret": {}, "configMap": {}}}
	w.secret = kubeclient.NewSecret(kubetest.Namespace, "a", func(s *core.Secret) string { return string(s.Data["key"]) })
	w.configMap = kubeclient.NewConfigMap(kubetest.Namespace, "a", func(c *core.ConfigMap) string { return c.Data["key"] })
	w.health = kubeclient.NewHealth(log.Logger(), "both", w.secret.Target, w.configMap.Target)
	client := api.Client(t)
	for name, object := range map[string]*kubeclient.Object[string]{"secret": w.secret, "configMap": w.configMap} {
		object.OnChange(func() { w.changes[name].Add(1) })
		kubetest.Run(t, func(ctx context.Context) { object.Watch(ctx, client, w.health) })
	}
	synctest.Wait()
	return w
}

func TestObjectFollowsItsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := kubetest.Start(t)
		w := watchBoth(t, api, &kubetest.Log{})
		if _, exists := w.secret.Get(); exists || !w.secret.Answered(w.health) || !w.health.Connected() {
			t.Error("that the Secret does not exist is not known")
		}
		set := func(value, other string) {
			api.Put(kubetest.SecretsPath, "a", kubetest.SecretJSON("Opaque", map[string]string{"key": value, "other": other}))
			api.Put(kubetest.ConfigMapsPath, "a", `{"data":{"key":"`+value+`","other":"`+other+`"}}`)
			synctest.Wait()
		}
		for _, n := range w.changes {
			n.Store(0)
		}
		for _, value := range []string{"1", "2"} {
			set(value, "same")
			secret, _ := w.secret.Get()
			if configMap, _ := w.configMap.Get(); secret != value || configMap != value {
				t.Errorf("%q and %q; want %q", secret, configMap, value)
			}
		}
		set("2", "another") // which is left out
		for name, n := range w.changes {
			if n.Load() != 2 {
				t.Errorf("the %s has changed %d times; want 2", name, n.Load())
			}
		}
		api.Remove(kubetest.SecretsPath + "/a")
		synctest.Wait()
		if _, exists := w.secret.Get(); exists {
			t.Error("the deleted Secret exists")
		}
	})
}

func TestOutagesAreLoggedOnceForAllWatches(t *testing.T) {
	tests := map[string]struct {
		begin, end func(*kubetest.Server)
	}{
		"the API server is away": {(*kubetest.Server).Stop, (*kubetest.Server).Restart},
		"the API server refuses": {
			func(api *kubetest.Server) { api.Refuse(http.StatusForbidden); api.Stop(); api.Restart() },
			func(api *kubetest.Server) { api.Refuse(0) },
		},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api, log := kubetest.Start(t), &kubetest.Log{}
				api.Put(kubetest.SecretsPath, "a", kubetest.SecretJSON("Opaque", map[string]string{"key": "1"}))
				w := watchBoth(t, api, log)
				test.begin(api)
				time.Sleep(time.Minute)
				if value, _ := w.secret.Get(); value != "1" || w.health.Connected() {
					t.Errorf("during the outage the Secret has %q, and changes are seen: %t", value, w.health.Connected())
				}
				test.end(api)
				time.Sleep(3 * time.Second) // the longest pause between two tries
				if !w.health.Connected() {
					t.Error("changes are not seen again")
				}
				if lost, back := strings.Count(log.String(), "cannot be watched"), strings.Count(log.String(), "watched again"); lost != 1 || back != 1 {
					t.Errorf("%d lines about the loss, %d about the return; want one each\n%s", lost, back, log)
				}
			})
		})
	}
}

// TestAnsweredIsTrueForARefusal holds that a refusal counts as an answer, so that a part that can do without an object need
// not wait for it, and that an outage does not.
func TestAnsweredIsTrueForARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := kubetest.Start(t)
		api.Stop()
		w := watchBoth(t, api, &kubetest.Log{})
		if w.secret.Answered(w.health) {
			t.Error("an API server that is away has answered")
		}
		api.Refuse(http.StatusForbidden)
		api.Restart()
		time.Sleep(3 * time.Second)
		if !w.secret.Answered(w.health) || w.health.Connected() {
			t.Errorf("refused, and answered: %t, connected: %t", w.secret.Answered(w.health), w.health.Connected())
		}
	})
}
