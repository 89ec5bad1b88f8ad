package function_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/function"
)

// reportsAPI answers what a console asks of a cluster whose auditor has written two reports, which are listed on a page each.
func reportsAPI(group, version, resource string) http.HandlerFunc {
	list := func(w http.ResponseWriter, items, next string) {
		fmt.Fprintf(w, `{"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":"1","continue":%q},"items":[%s]}`, next, items)
	}
	report := func(name, result string) string {
		return fmt.Sprintf(`{"apiVersion":"%s/%s","kind":"X","metadata":{"name":%q,"namespace":"shop"},"scope":{"kind":"Deployment","name":%[3]q},"summary":{%[4]q:1},
			"results":[{"policy":"tp","rule":"app","result":%[4]q,"message":"found","timestamp":{"seconds":1,"nanos":0},"properties":{"image":"reg.example/%[3]s:v1","code":"NoSignature","pods":"2"}}]}`, group, version, name, result)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch path := r.URL.Path; {
		case path == "/apis/"+group+"/"+version:
			fmt.Fprintf(w, `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"%s/%s","resources":[{"name":%q,"namespaced":true,"kind":"X","verbs":["list"]}]}`, group, version, resource)
		case path == "/apis/"+group+"/"+version+"/"+resource && r.URL.Query().Get("labelSelector") == "app.kubernetes.io/managed-by=kyverno-notation-venafi":
			if r.URL.Query().Get("continue") == "" {
				list(w, report("cart", "pass"), "more")
				return
			}
			list(w, report("ledger", "fail"), "")
		case strings.HasPrefix(path, "/apis/notation.nirmata.io/v1alpha1/"):
			list(w, "", "")
		case path == "/apis/authentication.k8s.io/v1/tokenreviews":
			text, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20)) // protobuf, in which texts stand as they are
			good := strings.Contains(string(text), "good") && strings.Contains(string(text), "console")
			fmt.Fprintf(w, `{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","status":{"authenticated":%t,"audiences":["console"],"user":{"username":"auditor"}}}`, good)
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
		}
	}
}

// clusterConsole is a console of a cluster that an API server stands for.
func clusterConsole(t *testing.T, api http.Handler, users ...string) http.Handler {
	t.Helper()
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"x","clusters":[{"name":"x","cluster":{"server":%q}}],"contexts":[{"name":"x","context":{"cluster":"x","user":"x"}}],"users":[{"name":"x","user":{}}]}`, server.URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := function.Settings{Kubeconfig: kubeconfig}
	client, err := settings.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	c, err := function.NewClusterConsole(settings, function.ConsoleSettings{Users: users, Audiences: []string{"console"}}, client, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c.Handler()
}

// TestConsoleReadsReports of the API group that is installed, all pages of them, and says so where it cannot.
func TestConsoleReadsReports(t *testing.T) {
	refused := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Count(r.URL.Path, "/") == 4 {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","message":"it may not list them","code":403}`)
			return
		}
		reportsAPI("openreports.io", "v1alpha1", "reports")(w, r)
	})
	for sentence, tt := range map[string]struct {
		api   http.Handler
		says  []string
		lacks string
	}{
		"of openreports.io":        {reportsAPI("openreports.io", "v1alpha1", "reports"), []string{"From 2 reports of the auditor", "1 would be denied", "Deployment cart", "fail shop Deployment ledger"}, "cannot be read"},
		"of wgpolicyk8s.io":        {reportsAPI("wgpolicyk8s.io", "v1alpha2", "policyreports"), []string{"2 of 2 findings", "Deployment cart", "reg.example/ledger:v1 NoSignature found"}, "cannot be read"},
		"without either group":     {reportsAPI("reports.example", "v1", "reports"), []string{"neither openreports.io/v1alpha1 nor wgpolicyk8s.io/v1alpha2 is installed"}, "Deployment"},
		"without the right to see": {refused, []string{"cannot be read", "it may not list them"}, "Deployment"},
	} {
		page := words(look(t, clusterConsole(t, tt.api), "/running").Body.String())
		for _, part := range tt.says {
			if !strings.Contains(page, part) || strings.Contains(page, tt.lacks) {
				t.Errorf("%s: the page lacks %q, or has %q: %s", sentence, part, tt.lacks, page)
			}
		}
	}
}

// TestConsoleOfAManagerSaysWhereDecisionsAre, since it has none.
func TestConsoleOfAManagerSaysWhereDecisionsAre(t *testing.T) {
	page := words(look(t, clusterConsole(t, reportsAPI("openreports.io", "v1alpha1", "reports")), "/decisions").Body.String())
	if !strings.Contains(page, "run the command console with --service") {
		t.Errorf("the page says %s", page)
	}
}

// TestConsoleReviewsTokens by the API server: a tenant's is not enough.
func TestConsoleReviewsTokens(t *testing.T) {
	api := reportsAPI("openreports.io", "v1alpha1", "reports")
	for sentence, tt := range map[string]struct {
		user, token string
		status      int
	}{
		"a user who is named":     {"auditor", "good", http.StatusOK},
		"another user":            {"somebody", "good", http.StatusForbidden},
		"a token of nobody":       {"auditor", "bad", http.StatusUnauthorized},
		"a request without token": {"auditor", "", http.StatusUnauthorized},
	} {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/running", nil)
		if tt.token != "" {
			request.SetBasicAuth("", tt.token)
		}
		answer := httptest.NewRecorder()
		clusterConsole(t, api, tt.user).ServeHTTP(answer, request)
		if answer.Code != tt.status {
			t.Errorf("%s: %d %s; want %d", sentence, answer.Code, answer.Body, tt.status)
		}
	}
}
