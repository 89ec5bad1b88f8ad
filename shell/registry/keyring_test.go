package registry

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"oras.land/oras-go/v2/registry/remote/auth"
)

func TestKeyringFindsCredentialsOfADockerConfig(t *testing.T) {
	encoded := func(encoding *base64.Encoding, text string) string {
		return `{"auth":"` + encoding.EncodeToString([]byte(text)) + `"}`
	}
	config := `{"auths":{
		"https://index.docker.io/v1/":` + encoded(base64.StdEncoding, "hub:p:w") + `,
		"registry.example.com":{"username":"plain","password":"pw"},
		"https://v2.example.com/v2/":{"identitytoken":"refresh","auth":"` + base64.StdEncoding.EncodeToString([]byte("<token>:")) + `"},
		"port.example.com:5000":{"registrytoken":"access"},
		"usual.example.com:443":{"username":"usual","password":"pw"},
		"HTTPS://Shouted.example.com":{"username":"shouted","password":"pw"},
		"team.example.com/team":{"username":"team","password":"pw"},
		"both.example.com/team/app":{"username":"app","password":"pw"},
		"both.example.com/team":{"username":"team","password":"pw"},
		"both.example.com/other":{"username":"other","password":"pw"},
		"both.example.com":{"username":"all","password":"pw"},
		"*.azurecr.io":{"username":"acr","password":"pw"},
		"*.azurecr.io/team":{"username":"acr-team","password":"pw"},
		"mine.azurecr.io":{"username":"mine","password":"pw"},
		"raw.example.com":` + encoded(base64.RawStdEncoding, "raw:p") + `,
		"url.example.com":` + encoded(base64.URLEncoding, "url:\xfb\xff\xfe?") + `,
		"rawurl.example.com":` + encoded(base64.RawURLEncoding, "rawurl:\xfb\xff?") + `,
		"empty.example.com":{},
		"bad.example.com":{"auth":"c2VjcmV0"},
		"worse.example.com":{"auth":"%"},
		"worst.example.com":7}}`
	ring := ParseDockerConfig([]byte(config))
	tests := map[string]auth.Credential{
		"docker.io/library/nginx":           {Username: "hub", Password: "p:w"},
		"registry-1.docker.io/acme/app":     {Username: "hub", Password: "p:w"},
		"index.docker.io/acme/app":          {Username: "hub", Password: "p:w"},
		"registry.example.com/app":          {Username: "plain", Password: "pw"},
		"Registry.Example.Com/app":          {Username: "plain", Password: "pw"},
		"registry.example.com:443/app":      {Username: "plain", Password: "pw"},
		"usual.example.com/app":             {Username: "usual", Password: "pw"},
		"shouted.example.com/app":           {Username: "shouted", Password: "pw"},
		"v2.example.com/app":                {Username: "<token>", RefreshToken: "refresh"},
		"port.example.com:5000/app":         {AccessToken: "access"},
		"team.example.com/team/app":         {Username: "team", Password: "pw"},
		"team.example.com/team":             {Username: "team", Password: "pw"},
		"both.example.com/team/app":         {Username: "app", Password: "pw"},
		"both.example.com/team/app/web":     {Username: "app", Password: "pw"},
		"both.example.com/team/application": {Username: "team", Password: "pw"},
		"both.example.com/other/app":        {Username: "other", Password: "pw"},
		"both.example.com/teams/app":        {Username: "all", Password: "pw"},
		"other.azurecr.io/app":              {Username: "acr", Password: "pw"},
		"mine.azurecr.io/app":               {Username: "mine", Password: "pw"},
		"mine.azurecr.io/team/app":          {Username: "acr-team", Password: "pw"},
		"raw.example.com/app":               {Username: "raw", Password: "p"},
		"url.example.com/app":               {Username: "url", Password: "\xfb\xff\xfe?"},
		"rawurl.example.com/app":            {Username: "rawurl", Password: "\xfb\xff?"},
		// No others get any.
		"port.example.com/app":           {},
		"registry.example.com:5000/app":  {},
		"evil-registry.example.com/app":  {},
		"registry.example.com.evil/app":  {},
		"a.b.azurecr.io/app":             {},
		"azurecr.io/app":                 {},
		"team.example.com/app":           {},
		"team.example.com/team2/app":     {},
		"team.example.com/app/team":      {},
		"bad.example.com/app":            {},
		"docker.io.example.com/app":      {},
		"empty.example.com/app":          {},
		"worse.example.com/app":          {},
		"v2.example.com.example.org/app": {},
	}
	for name, want := range tests {
		host, repository, _ := strings.Cut(name, "/")
		if got, _ := FindIn([]Keyring{ring}, host, repository); got.Credential != want {
			t.Errorf("%s: %+v; want %+v", name, got.Credential, want)
		}
	}
	if problems := ring.Problems(); len(problems) != 3 || strings.Contains(strings.Join(problems, "\n"), "secret") {
		t.Errorf("problems: %q", problems)
	}
}

func TestFindInPrefersTheMostSpecificEntry(t *testing.T) {
	ring := func(entries string) Keyring { return ParseDockerConfig([]byte(`{"auths":{` + entries + `}}`)) }
	rings := []Keyring{
		ring(`"reg.example":{"username":"first"},"bad.example/team":7`),
		ring(`"reg.example":{"username":"second"},"reg.example/team":{"username":"second-team"},"bad.example":{"username":"whole"}`),
		ring(`"reg.example/team":{"username":"third-team"}`),
	}
	for name, want := range map[string]string{
		"reg.example/app": "first", "reg.example/team/app": "second-team", "bad.example/team/app": "whole", "other.example/app": "",
	} {
		host, repository, _ := strings.Cut(name, "/")
		if got, _ := FindIn(rings, host, repository); got.Credential.Username != want {
			t.Errorf("%s: %q; want %q", name, got.Credential.Username, want)
		}
	}
}

func TestDockerConfigReadsTheFileAgain(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"docker-credential-one": "#!/bin/sh\nread server\necho '{\"Username\":\"helped\",\"Secret\":\"p\"}'\n",
		"docker-credential-all": "#!/bin/sh\nread server\ncase $server in store.example) echo '{\"Username\":\"stored\",\"Secret\":\"p\"}';; *) echo 'credentials not found in native keychain'; exit 1;; esac\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, []byte(`{"credsStore":"all","credHelpers":{"https://helped.example/v1/":"one","docker.io":"one"},"auths":{
		"helped.example":{},"helped.example/team":{"auth":"dGVhbTpw"},"store.example":{"auth":"ZmlsZTpw"},"file.example":{"auth":"ZmlsZTpw"},"file.example/bad":7}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"helped.example/app": "helped", "helped.example/team/app": "team", "docker.io/acme/app": "helped",
		"store.example/app": "stored", "file.example/app": "file", "other.example/app": "", "file.example/bad/app": "error",
	} {
		host, repository, _ := strings.Cut(name, "/")
		got, err := DockerConfig(file)(t.Context(), host, repository)
		if err != nil {
			got.Username = "error"
		}
		if got.Username != want {
			t.Errorf("%s: %q, %v; want %q", name, got.Username, err, want)
		}
	}
}
