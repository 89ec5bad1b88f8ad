package kube

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

const (
	secretsPath    = "/api/v1/namespaces/ours/secrets"
	configMapsPath = "/api/v1/namespaces/ours/configmaps"
)

func secretJSON(kind string, data map[string]string) string {
	encoded := map[string]string{}
	for key, value := range data {
		encoded[key] = base64.StdEncoding.EncodeToString([]byte(value))
	}
	text, _ := json.Marshal(map[string]any{"type": kind, "data": encoded})
	return string(text)
}

func dockerConfigJSON(host, user string) string {
	return secretJSON("kubernetes.io/dockerconfigjson", map[string]string{
		".dockerconfigjson": `{"auths":{"` + host + `":{"username":"` + user + `","password":"hunter2"}}}`,
	})
}

func TestPullSecretsAreFollowed(t *testing.T) {
	api, log := startAPI(t), &record{}
	api.put(secretsPath, "first", dockerConfigJSON("a.example.com", "first"))
	api.put(secretsPath, "second", secretJSON("kubernetes.io/dockercfg", map[string]string{
		".dockercfg": `{"a.example.com":{"username":"second","password":"hunter2"},"b.example.com":{"username":"second","password":"hunter2"}}`,
	}))
	api.put(secretsPath, "opaque", secretJSON("Opaque", map[string]string{"a": "hunter2"}))
	api.put(secretsPath, "another", dockerConfigJSON("c.example.com", "another"))
	secrets := NewPullSecrets(api.client(t), "ours", []string{"first", "second", "opaque", "missing"}, log.logger())
	running(t, secrets.Watch)
	eventually(t, "synced", secrets.Synced)
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
	api.put(secretsPath, "first", dockerConfigJSON("a.example.com", "rotated"))
	eventually(t, "rotated", func() bool { return user("a.example.com") == "rotated" })
	api.remove(secretsPath, "first")
	eventually(t, "gone", func() bool { return user("a.example.com") == "second" })
	api.put(secretsPath, "missing", dockerConfigJSON("d.example.com", "found"))
	eventually(t, "found", func() bool { return user("d.example.com") == "found" })

	for _, line := range []string{`does not exist; registries are asked without it" secret=missing`, `secret=opaque namespace=ours reason="its type is \"Opaque\"`} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the log lacks %s\n%s", line, log)
		}
	}
	if strings.Contains(log.String(), "hunter2") {
		t.Errorf("the log tells a password\n%s", log)
	}
	api.mu.Lock()
	defer api.mu.Unlock()
	for _, asked := range api.asked {
		if !strings.HasPrefix(asked, secretsPath+"?metadata.name=") {
			t.Errorf("asked for %s, which a role that names its secrets forbids", asked)
		}
	}
}

func TestPullSecretsThatMayNotBeReadAreDoneWithout(t *testing.T) {
	api := startAPI(t)
	api.refuses(http.StatusForbidden)
	secrets := NewPullSecrets(api.client(t), "ours", []string{"a"}, (&record{}).logger())
	if secrets.Synced() {
		t.Error("synced before anything was asked")
	}
	running(t, secrets.Watch)
	eventually(t, "synced", secrets.Synced)
	if secrets.Connected() {
		t.Error("connected, though refused")
	}
}

func TestPluginConfigIsMerged(t *testing.T) {
	api, log := startAPI(t), &record{}
	api.put(configMapsPath, "config", `{"data":{"a":"map","b":"map"}}`)
	client := api.client(t)
	config := NewPluginConfig(client, PluginConfigOptions{Namespace: "ours", ConfigMap: "config", Secret: "secret"}, log.logger())
	if config.Config() == nil || len(config.Config()) != 0 {
		t.Errorf("before the first answer: %v", config.Config())
	}
	running(t, config.Watch)
	eventually(t, "synced", config.Synced)
	is := func(want map[string]string) func() bool {
		return func() bool { return maps.Equal(config.Config(), want) }
	}
	eventually(t, "only the ConfigMap", is(map[string]string{"a": "map", "b": "map"}))
	given := config.Config()
	api.put(secretsPath, "secret", secretJSON("Opaque", map[string]string{"b": "hunter2", "c": "hunter2"}))
	eventually(t, "both", is(map[string]string{"a": "map", "b": "hunter2", "c": "hunter2"}))
	api.remove(configMapsPath, "config")
	eventually(t, "only the Secret", is(map[string]string{"b": "hunter2", "c": "hunter2"}))
	if !slices.Equal(slices.Sorted(maps.Keys(given)), []string{"a", "b"}) {
		t.Errorf("a map that was given changed: %v", given)
	}
	if strings.Contains(log.String(), "hunter2") {
		t.Errorf("the log tells a value\n%s", log)
	}
	if empty := NewPluginConfig(client, PluginConfigOptions{}, log.logger()); !empty.Synced() || !empty.Connected() {
		t.Error("without sources there is nothing to wait for")
	}
}
