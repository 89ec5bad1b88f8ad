package certmanager

import (
	"encoding/base64"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/core/recordkey"
	"github.com/nirmata/kyverno-notation-venafi/shell/issuer"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
)

const (
	recordKeyPath  = kubetest.SecretsPath + "/records"
	publicKeysPath = kubetest.ConfigMapsPath + "/records"
)

func withRecordKey() Others {
	others := others()
	others.RecordKeys, others.RecordKey = "records", recordkey.Policy{Duration: 2160 * time.Hour}
	return others
}

// recordKey reads the key that signs; nil where there is none.
func (c cluster) recordKey() *certificates.Pair {
	pair, err := recordkey.ParsePair([]byte(c.stored(recordKeyPath, "tls.crt")), []byte(c.stored(recordKeyPath, "tls.key")))
	if err != nil {
		return nil
	}
	return pair
}

// published tells whether the public key of a pair is in the ConfigMap.
func (c cluster) published(pair *certificates.Pair) bool {
	for _, public := range recordkey.Parse([]byte(c.stored(publicKeysPath, recordkey.PublicKey))) {
		if pair != nil && public.Equal(pair.Certificate) {
			return true
		}
	}
	return false
}

// TestRecordKeyIsReplaced lets some lives of a key pass, with restarts of the manager.
func TestRecordKeyIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, others := start(t), withRecordKey()
		others.RecordKey.Duration = 60 * time.Hour
		stop := manageUntil(t, api, others)
		kubetest.Within(t, 5*time.Second, "a key", func() bool { return api.published(api.recordKey()) })
		var keys []*certificates.Pair
		for hour := range 240 {
			time.Sleep(time.Hour)
			if hour%50 == 49 {
				stop()
				stop = manageUntil(t, api, others)
			}
			key := api.recordKey()
			if key == nil || !time.Now().Before(key.Certificate.NotAfter) || !api.published(key) {
				t.Fatalf("after %d hours there is no valid key that is published", hour)
			}
			if len(keys) == 0 || !keys[len(keys)-1].Certificate.Equal(key.Certificate) {
				keys = append(keys, key)
			}
		}
		stop()
		for i, key := range keys {
			if !api.published(key) {
				t.Errorf("key %d is published no more", i)
			}
		}
		if len(keys) != 6 {
			t.Errorf("%d keys in 240 hours", len(keys))
		}
	})
}

// TestRecordKeyIsRepaired has somebody change the objects.
func TestRecordKeyIsRepaired(t *testing.T) {
	foreign := func(t *testing.T) string {
		pair, err := issuer.RecordKey(recordkey.Policy{Duration: time.Hour}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		certificate, _, _ := pair.PEM()
		return string(certificate)
	}
	text := func(api cluster, path string, change func(data map[string]any)) func(t *testing.T) {
		return func(t *testing.T) {
			api.Change(t, path, func(object, _ map[string]any) { change(object["data"].(map[string]any)) })
		}
	}
	tests := map[string]struct {
		spoil   func(t *testing.T, api cluster)
		sameKey bool
	}{
		"the ConfigMap is deleted": {func(_ *testing.T, api cluster) { api.Remove(publicKeysPath) }, true},
		"a key is added to the ConfigMap": {func(t *testing.T, api cluster) {
			text(api, publicKeysPath, func(data map[string]any) {
				data[recordkey.PublicKey] = data[recordkey.PublicKey].(string) + foreign(t)
			})(t)
		}, true},
		"the ConfigMap is emptied": {func(t *testing.T, api cluster) {
			text(api, publicKeysPath, func(data map[string]any) { delete(data, recordkey.PublicKey) })(t)
		}, true},
		"the Secret is deleted": {func(_ *testing.T, api cluster) { api.Remove(recordKeyPath) }, false},
		"the key is spoilt": {func(t *testing.T, api cluster) {
			text(api, recordKeyPath, func(data map[string]any) {
				data["tls.key"] = base64.StdEncoding.EncodeToString([]byte("spoilt"))
			})(t)
		}, false},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api, log := start(t), &kubetest.Log{}
				kubetest.Run(t, NewCertificates(api.Client(t), longLived(), withRecordKey(), log.Logger()).Run)
				kubetest.Within(t, 5*time.Second, "a key", func() bool { return api.published(api.recordKey()) })
				first := api.recordKey()
				private := api.stored(recordKeyPath, "tls.key")
				test.spoil(t, api)
				time.Sleep(time.Minute)
				second := api.recordKey()
				if second == nil || !api.published(second) || !api.published(first) || second.Certificate.Equal(first.Certificate) != test.sameKey {
					t.Errorf("afterwards there is %v, published %t, and the first one %t", second, api.published(second), api.published(first))
				}
				want := 2
				if test.sameKey {
					want = 1
				}
				if published := recordkey.Parse([]byte(api.stored(publicKeysPath, recordkey.PublicKey))); len(published) != want {
					t.Errorf("%d keys are published", len(published))
				}
				if strings.Contains(log.String(), strings.Split(private, "\n")[1]) {
					t.Error("the private key is logged")
				}
			})
		})
	}
}

// TestNoRecordKey makes none where it is not wanted.
func TestNoRecordKey(t *testing.T) {
	for sentence, change := range map[string]func(*Others){
		"without a name":     func(o *Others) { o.RecordKeys = "" },
		"without a duration": func(o *Others) { o.RecordKey.Duration = 0 },
	} {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api, others := start(t), withRecordKey()
				change(&others)
				kubetest.Run(t, NewCertificates(api.Client(t), longLived(), others, (&kubetest.Log{}).Logger()).Run)
				kubetest.Within(t, 5*time.Second, "a token", func() bool { return api.exists(callerPath) })
				time.Sleep(time.Minute)
				if api.exists(recordKeyPath) || api.exists(publicKeysPath) {
					t.Error("there is a key")
				}
			})
		})
	}
}
