package kube

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
)

func dockerConfigJSON(host, user string) string {
	return kubetest.SecretJSON("kubernetes.io/dockerconfigjson", map[string]string{
		".dockerconfigjson": `{"auths":{"` + host + `":{"username":"` + user + `","password":"hunter2"}}}`,
	})
}

func TestPullSecretsAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, log := kubetest.Start(t), &kubetest.Log{}
		api.Put(kubetest.SecretsPath, "first", dockerConfigJSON("a.example.com", "first"))
		api.Put(kubetest.SecretsPath, "second", kubetest.SecretJSON("kubernetes.io/dockercfg", map[string]string{
			".dockercfg": `{"a.example.com":{"username":"second","password":"hunter2"},"b.example.com":{"username":"second","password":"hunter2"}}`,
		}))
		api.Put(kubetest.SecretsPath, "opaque", kubetest.SecretJSON("Opaque", map[string]string{"a": "hunter2"}))
		api.Put(kubetest.SecretsPath, "another", dockerConfigJSON("c.example.com", "another"))
		secrets := NewPullSecrets(api.Client(t), "ours", []string{"first", "second", "opaque", "missing"}, log.Logger())
		kubetest.Run(t, secrets.Watch)
		kubetest.Within(t, time.Second, "synced", secrets.Synced)
		user := func(host string) string {
			credential, err := secrets.Credential(t.Context(), host, "acme/app")
			if err != nil {
				t.Error(err)
			}
			return credential.Username
		}
		for host, want := range map[string]string{"a.example.com": "first", "b.example.com": "second", "c.example.com": "", "d.example.com": ""} {
			if got := user(host); got != want {
				t.Errorf("%s: %q; want %q", host, got, want)
			}
		}
		api.Put(kubetest.SecretsPath, "first", dockerConfigJSON("a.example.com", "rotated"))
		kubetest.Within(t, time.Second, "rotated", func() bool { return user("a.example.com") == "rotated" })
		api.Remove(kubetest.SecretsPath + "/" + "first")
		kubetest.Within(t, time.Second, "gone", func() bool { return user("a.example.com") == "second" })
		api.Put(kubetest.SecretsPath, "missing", dockerConfigJSON("d.example.com", "found"))
		kubetest.Within(t, time.Second, "found", func() bool { return user("d.example.com") == "found" })

		for _, line := range []string{`does not exist; registries are asked without it" secret=missing`, `secret=opaque namespace=ours reason="its type is \"Opaque\"`} {
			if !strings.Contains(log.String(), line) {
				t.Errorf("the log lacks %s\n%s", line, log)
			}
		}
		if strings.Contains(log.String(), "hunter2") {
			t.Errorf("the log contains a password\n%s", log)
		}
		for _, asked := range api.Requests() {
			if !strings.HasPrefix(asked, kubetest.SecretsPath+"?metadata.name=") {
				t.Errorf("asked for %s, which a role that names its secrets forbids", asked)
			}
		}
	})
}

func TestPullSecretsThatMayNotBeReadAreDoneWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := kubetest.Start(t)
		api.Refuse(http.StatusForbidden)
		secrets := NewPullSecrets(api.Client(t), "ours", []string{"a"}, (&kubetest.Log{}).Logger())
		if secrets.Synced() {
			t.Error("synced before anything was asked")
		}
		kubetest.Run(t, secrets.Watch)
		kubetest.Within(t, time.Second, "synced", secrets.Synced)
		if secrets.Connected() {
			t.Error("connected, though refused")
		}
	})
}

func TestPluginConfigIsMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, log := kubetest.Start(t), &kubetest.Log{}
		api.Put(kubetest.ConfigMapsPath, "config", `{"data":{"a":"map","b":"map"}}`)
		client := api.Client(t)
		config := NewPluginConfig(client, PluginConfigOptions{Namespace: "ours", ConfigMap: "config", Secret: "secret"}, log.Logger())
		if config.Config() == nil || len(config.Config()) != 0 {
			t.Errorf("before the first answer: %v", config.Config())
		}
		kubetest.Run(t, config.Watch)
		kubetest.Within(t, time.Second, "synced", config.Synced)
		is := func(want map[string]string) func() bool {
			return func() bool { return maps.Equal(config.Config(), want) }
		}
		kubetest.Within(t, time.Second, "only the ConfigMap", is(map[string]string{"a": "map", "b": "map"}))
		given := config.Config()
		api.Put(kubetest.SecretsPath, "secret", kubetest.SecretJSON("Opaque", map[string]string{"b": "hunter2", "c": "hunter2"}))
		kubetest.Within(t, time.Second, "both", is(map[string]string{"a": "map", "b": "hunter2", "c": "hunter2"}))
		api.Remove(kubetest.ConfigMapsPath + "/" + "config")
		kubetest.Within(t, time.Second, "only the Secret", is(map[string]string{"b": "hunter2", "c": "hunter2"}))
		if !slices.Equal(slices.Sorted(maps.Keys(given)), []string{"a", "b"}) {
			t.Errorf("a map that was given changed: %v", given)
		}
		if strings.Contains(log.String(), "hunter2") {
			t.Errorf("the log contains a value\n%s", log)
		}
		if empty := NewPluginConfig(client, PluginConfigOptions{}, log.Logger()); !empty.Synced() || !empty.Connected() {
			t.Error("without sources there is nothing to wait for")
		}
	})
}
