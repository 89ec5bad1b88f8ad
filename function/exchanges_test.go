package function_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
)

// exchangesDir has a request and its answer per file, which config/validate holds against openapi.yaml.
const exchangesDir = "testdata/exchanges"

// changing are the parts of an answer that differ from run to run, and what the files have instead.
var changing = []struct {
	pattern *regexp.Regexp
	fixed   string
}{
	{regexp.MustCompile(`127\.0\.0\.1:[0-9]+|localhost:[0-9]+`), "registry.example.com"},
	{regexp.MustCompile(`sha256:[0-9a-f]{64}`), "sha256:" + strings.Repeat("a", 64)},
	{regexp.MustCompile(`ready; plugins run without .+`), "ready"}, // an old kernel
	{regexp.MustCompile(`\b[0-9A-HJKMNP-TV-Z]{26}\b`), "01J00000000000000000000000"},
}

// exchange is a request to one of two handlers.
type exchange struct {
	sentence             string // what the file shows
	method, path, accept string
	contentType          string
	body                 string
	stranger             bool // to a service that knows no caller
}

// TestExchanges holds what the handlers answer, byte for byte. Run it with -update to rewrite the files.
func TestExchanges(t *testing.T) {
	b := start(t, registrytest.Options{}, "", func(s *function.Settings) { s.MaxBodyBytes = 4096 })
	signed, _ := b.publish(t, "signed")
	unsigned, _ := b.publish(t, "unsigned")
	unreachable := pod(strings.Replace(signed, "acme/", "acme/none/", 1))
	large := `{"object":{},"trustPolicy":"` + strings.Repeat("x", 5000) + `"}`
	const event = `{"specversion":"1.0","id":"1","source":"/apis","type":"dev.knative.apiserver.resource.update"}`
	for name, e := range map[string]exchange{
		"checkimages-200":      {"An image that is signed is pinned.", "POST", "/checkimages", "", "", pod(signed), false},
		"checkimages-400":      {"A request that is not understood.", "POST", "/checkimages", "", "", `{"object":{},"attestation":[]}`, false},
		"checkimages-401":      {"A caller who is not known.", "POST", "/checkimages", "", "", pod(signed), true},
		"checkimages-406":      {"An image that is not signed, as Kyverno prints it.", "POST", "/checkimages", "", "", pod(signed, unsigned), false},
		"checkimages-406-json": {"The same for a caller who takes JSON.", "POST", "/checkimages", "application/json", "", pod(signed, unsigned), false},
		"checkimages-406-none": {"An image that does not exist.", "POST", "/checkimages", "", "", unreachable, false},
		"checkimages-413":      {"A body over the bound.", "POST", "/checkimages", "", "", large, false},
		"verify-200":           {"The verdict on an image that is signed and one that is not.", "POST", "/verify", "", "application/json", pod(signed, unsigned), false},
		"verify-400":           {"A request without images has no verdict.", "POST", "/verify", "", "application/json", `{"object":{"kind":"ConfigMap"}}`, false},
		"verify-401":           {"A caller who is not known gets no verdict.", "POST", "/verify", "", "application/json", pod(signed), true},
		"verify-413":           {"A body over the bound has no verdict.", "POST", "/verify", "", "application/json", large, false},
		"events-403":           {"Events are taken in a cluster only.", "POST", "/events", "", "application/cloudevents+json", event, false},
		"root-403":             {"The same at the root.", "POST", "/", "", "application/cloudevents+json", event, false},
		"root-200":             {"What is no event, such as func's default invocation, is told what to send.", "POST", "/", "", "application/json", `{"message":"Hello World"}`, false},
		"decisions-403":        {"Nobody may read decisions by default.", "GET", "/decisions", "", "", "", false},
		"decision-403":         {"Nor one of them.", "GET", "/decisions/01J00000000000000000000000", "", "", "", false},
		"liveness-200":         {"The process answers.", "GET", "/health/liveness", "", "", "", false},
		"readiness-200":        {"Requests can be answered.", "GET", "/health/readiness", "", "", "", false},
		"metrics-200":          {"Metrics, of which the file has none.", "GET", "/metrics", "", "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			handler := b.service.Handler()
			if e.stranger {
				handler = b.service.ForStrangers()
			}
			holdExchange(t, filepath.Join(exchangesDir, name+".txtar"), e, handler)
		})
	}
}

// holdExchange compares an answer with the file's, or writes it.
func holdExchange(t *testing.T, path string, e exchange, handler http.Handler) {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), e.method, e.path, strings.NewReader(e.body))
	asked := e.method + " " + e.path + "\n"
	for _, header := range []struct{ name, value string }{{"Accept", e.accept}, {"Content-Type", e.contentType}} {
		if header.value != "" {
			request.Header.Set(header.name, header.value)
			asked += header.name + ": " + header.value + "\n"
		}
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	answered := fmt.Sprintf("%d\nContent-Type: %s\n", recorder.Code, recorder.Header().Get("Content-Type"))
	if e.path != "/metrics" {
		answered += "\n" + recorder.Body.String()
	}
	archive := &txtar.Archive{Comment: []byte(e.sentence + "\n\n"), Files: []txtar.File{
		{Name: "request", Data: []byte(fixed(asked + "\n" + e.body + "\n"))},
		{Name: "response", Data: []byte(fixed(strings.TrimRight(answered, "\n") + "\n"))},
	}}
	if *update {
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if have := txtar.Format(archive); string(have) != string(want) {
		t.Errorf("answered\n%s\nwant\n%s\nrun go test ./function -run Exchanges -update if that is right", have, want)
	}
}

func fixed(text string) string {
	for _, part := range changing {
		text = part.pattern.ReplaceAllString(text, part.fixed)
	}
	return text
}
