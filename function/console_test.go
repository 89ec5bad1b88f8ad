package function_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
	"github.com/nirmata/kyverno-notation-venafi/core/console"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/kube"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// recordedDecisions are decisions for a console.
type recordedDecisions []record.Record

func (d recordedDecisions) Recent(context.Context) (decisions []console.Decision, from string, err error) {
	for _, r := range d {
		text, err := json.Marshal(r)
		if err != nil {
			return nil, "", err
		}
		head, err := console.ReadDecision(text)
		if err != nil {
			return nil, "", err
		}
		decisions = append(decisions, head)
	}
	return decisions, "From a test.", nil
}

func (d recordedDecisions) Find(_ context.Context, id string) (record.Record, error) {
	at := slices.IndexFunc(d, func(r record.Record) bool { return r.ID == id })
	if at < 0 {
		return record.Record{}, function.ErrNoDecision
	}
	return d[at], nil
}

// consoleOf makes a console for sources, which nobody has to authenticate to.
func consoleOf(t testing.TB, sources function.ConsoleSources) http.Handler {
	t.Helper()
	if sources.Trust == nil {
		sources.Trust = func(context.Context) (shelltrust.Resources, []shelltrust.Problem, error) {
			return shelltrust.Resources{}, nil, nil
		}
	}
	c, err := function.NewConsole(function.Settings{}, function.ConsoleSettings{}, sources, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c.Handler()
}

// look asks for a page as a browser on the same machine does.
func look(t testing.TB, pages http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost:8090"+path, nil)
	answer := httptest.NewRecorder()
	pages.ServeHTTP(answer, request)
	return answer
}

// words is a page's text, without its tags.
func words(page string) string {
	return strings.Join(strings.Fields(html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, " "))), " ")
}

// TestConsoleTellsOfEveryCase records a decision about each case, and looks at its picture.
func TestConsoleTellsOfEveryCase(t *testing.T) {
	b := start(t, registrytest.Options{}, "", recorded)
	var all recordedDecisions
	ids := map[string]string{}
	for _, c := range scenariotest.Cases() {
		if _, err := b.scenario.Publish(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		answer := b.post(t, "/checkimages", c.Request(b.scenario.Reference(c.Name)))
		all, ids[c.Name] = append(all, b.decision(t, answer)), answer.decision
	}
	pages := consoleOf(t, function.ConsoleSources{Decisions: all, Trust: func(context.Context) (shelltrust.Resources, []shelltrust.Problem, error) {
		return shelltrust.ReadDir(b.trustDir)
	}})
	chain := "certificate CN=Acme Build,O=Acme,ST=WA,C=US valid"
	for name, want := range map[string][]string{
		"signed":              {"Verified", "signature sha256:", "satisfies", "certificate CN=Acme Release", "trust store ca:acme has it", "Passed: authenticity."},
		"signed-ecdsa":        {chain, "trust store ca:acme has it"},
		"unsigned":            {"signature none NoSignature"},
		"foreign":             {"SignatureUntrusted", "certificate CN=Mallory", "trust store ca:acme has none of the chain", "Failed: authenticity."},
		"expired-certificate": {"CertificateExpired", "certificate CN=Acme Former", "expired"},
		"plugin-missing":      {"It demands the plugin not-installed", "PluginMissing"},
		"beside-foreign":      {"trust store ca:acme has it"},
		"sbom-met":            {"attestations application/vnd.cyclonedx+json all must meet the conditions", "meets the conditions", "condition the only one met", "AllNotIn"},
		"sbom-unmet":          {"condition the only one ConditionUnmet", "GPL-3.0"},
		"sbom-unsigned":       {"attestation sha256:", "not trusted", "signature none NoSignature"},
		"sbom-missing":        {"attestations application/vnd.cyclonedx+json none is attached"},
	} {
		answer := look(t, pages, "/decisions/"+ids[name])
		text := words(answer.Body.String())
		for _, part := range append(want, ids[name], "decision "+ids[name]+" of ") {
			if !strings.Contains(text, part) {
				t.Errorf("%s: the page lacks %q:\n%s", name, part, text)
			}
		}
	}
	list := words(look(t, pages, "/decisions").Body.String())
	if denied, admitted := strings.Index(list, "SignatureUntrusted"), strings.Index(list, "admitted Pod"); denied < 0 || denied > admitted && admitted >= 0 || !strings.Contains(list, fmt.Sprintf("%d of %[1]d recorded decisions", len(all))) {
		t.Errorf("the list is %s", list)
	}
	if filtered := words(look(t, pages, "/decisions?code=NoSignature&image=acme%2Funsigned").Body.String()); !strings.Contains(filtered, fmt.Sprintf("1 of %d recorded", len(all))) {
		t.Errorf("filtered: %s", filtered)
	}
	for page, want := range map[string]string{"/stores": "1 of 1 certificates are valid", "/policies": "statements can be used", "/": "recorded decisions"} {
		if text := words(look(t, pages, page).Body.String()); !strings.Contains(text, want) {
			t.Errorf("%s lacks %q: %s", page, want, text)
		}
	}
}

// hostile is what a stranger may write wherever there is a text.
const hostile = `"><script>alert(1)</script><img src=x onerror=alert(2)> javascript:alert(3) {{.}} ` + "\u202e\x1b[31m"

// TestConsoleEscapesStrangers puts hostile texts wherever a stranger can write one.
func TestConsoleEscapesStrangers(t *testing.T) {
	r := record.Record{ID: "01M8C95RNMTW6JAP53C04EWFKA", Outcome: "denied", Caller: hostile, Replica: hostile, Endpoint: hostile, Cut: []string{hostile}, Time: time.Now()}
	r.Object = core.Object{Kind: hostile, Namespace: hostile, Name: hostile}
	r.Verdict.Results = []core.Result{{Kind: hostile, Name: hostile, Requested: hostile, Code: reason.Code(hostile), Reason: hostile}}
	foreign := record.Record{ID: hostile, Outcome: hostile, Time: time.Now()}
	reports := []auditor.Report{{Metadata: auditor.Metadata{Namespace: hostile}, Scope: auditor.Scope{Kind: hostile, Name: hostile}, Summary: auditor.Summary{Fail: 1}, Results: []auditor.RuleResult{
		{Policy: hostile, Rule: hostile, Result: auditor.Result(hostile), Message: hostile, Properties: map[string]string{"image": hostile, "code": hostile, "pods": hostile}},
		{Policy: hostile, Rule: hostile, Result: auditor.Fail, Message: hostile},
	}}}
	var resources shelltrust.Resources
	policy := shelltrust.PolicyResource{Spec: shelltrust.PolicySpec{TrustPolicyName: hostile, TrustPolicies: []shelltrust.PolicyStatement{{Name: hostile, RegistryScopes: []string{hostile}, TrustedIdentities: []string{hostile}}}}}
	store := shelltrust.StoreResource{Spec: shelltrust.StoreSpec{TrustStoreName: hostile, Type: hostile, CABundle: hostile}}
	policy.Name, store.Name = hostile, hostile
	resources.Policies, resources.Stores = append(resources.Policies, policy), append(resources.Stores, store)
	pages := consoleOf(t, function.ConsoleSources{
		Decisions: recordedDecisions{r, foreign},
		Running: func(context.Context) (function.ConsoleReports, error) {
			return function.ConsoleReports{Reports: reports, From: hostile}, nil
		},
		Trust: func(context.Context) (shelltrust.Resources, []shelltrust.Problem, error) {
			return resources, []shelltrust.Problem{{Kind: hostile, Name: hostile, Reason: hostile}}, nil
		},
	})
	query := "?" + url.Values{"namespace": {hostile}, "image": {hostile}, "code": {hostile}}.Encode()
	for _, path := range []string{"/", "/policies", "/stores", "/decisions", "/decisions" + query, "/running", "/running" + query, "/decisions/" + r.ID, "/decisions/" + url.PathEscape(hostile)} {
		page := look(t, pages, path).Body.String()
		if !strings.Contains(page, "alert(1)") || !strings.Contains(page, "</html>") {
			t.Errorf("%s does not show the text: %s", path, page)
		}
		for _, tag := range regexp.MustCompile(`<[^>]*>`).FindAllString(page, -1) {
			if regexp.MustCompile(`(?i)^<(script|iframe|style|object|embed|base)|\bon\w+=|\sstyle=|href="(?:javascript|data|//|https?):`).MatchString(regexp.MustCompile(`"[^"]*alert[^"]*"`).ReplaceAllString(tag, `""`)) || strings.HasPrefix(tag, "<img") && !strings.Contains(tag, `src="/icon.svg"`) {
				t.Errorf("%s has %s", path, tag)
			}
		}
	}
}

// TestConsoleLinksLeadNowhereElse names decisions and filters as a stranger would who wants a link to lead to a script or to another host.
func TestConsoleLinksLeadNowhereElse(t *testing.T) {
	for _, name := range []string{hostile, "javascript:alert(1)", "JaVaScRiPt\t:alert(1)", "//evil.example/", `\\evil.example`, "data:text/html,x", "https://evil.example", "../..//evil.example", "?x=1#main", "\x00", "\xff", ""} {
		one := record.Record{ID: name, Outcome: "denied", Time: time.Now()}
		one.Verdict.Results = []core.Result{{Kind: "container", Name: "web", Requested: name, Path: "/image", Code: reason.NoSignature}}
		one.Plan.Images = []core.PlannedImage{{Image: core.Image{Pointer: "/image"}}}
		one.Plan.Tasks, one.Evidence = []record.Task{{}}, []record.Gathered{{From: "from " + name}}
		sources := function.ConsoleSources{Decisions: recordedDecisions(slices.Repeat([]record.Record{one}, 3*console.PerPage))}
		pages := consoleOf(t, sources)
		query := "?" + url.Values{"namespace": {""}, "image": {name}, "page": {"2"}}.Encode()
		links := map[string]int{}
		for _, path := range []string{"/", "/decisions", "/decisions" + query, "/decisions/" + url.PathEscape(name)} {
			for _, found := range regexp.MustCompile(`(?i)\s(href|src|action)="([^"]*)"`).FindAllStringSubmatch(look(t, pages, path).Body.String(), -1) {
				text := html.UnescapeString(found[2])
				links[text]++
				to, err := url.Parse(text)
				if err != nil || to.Scheme != "" || to.Host != "" || to.Opaque != "" || text != "#main" && !strings.HasPrefix(text, "/") || strings.HasPrefix(text, "//") || strings.ContainsAny(text, "\\\t\x00") {
					t.Errorf("%q: %s links to %q: %v", name, path, text, err)
				}
			}
		}
		for _, want := range []string{"/decisions/" + url.PathEscape(name), "/decisions?" + url.Values{"image": {name}, "page": {"3"}}.Encode()} {
			if name != "" && links[want] == 0 && strings.TrimSpace(name) == name && utf8.ValidString(name) {
				t.Errorf("%q: no page links to %q; only to %v", name, want, slices.Sorted(maps.Keys(links)))
			}
		}
	}
}

// TestConsoleWritesNothingUnescaped by the two functions of the library that do not escape.
func TestConsoleWritesNothingUnescaped(t *testing.T) {
	files, err := filepath.Glob("console*.go")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if found := regexp.MustCompile(`\bg\.Rawf?\b`).Find(text); found != nil {
			t.Errorf("%s has %s", file, found)
		}
	}
}

// TestConsoleSaysWhatItDoesNotHave where a source is missing or fails.
func TestConsoleSaysWhatItDoesNotHave(t *testing.T) {
	down := errors.New("the API server is down")
	pages := consoleOf(t, function.ConsoleSources{
		NoDecisions: "No decisions here.", NoRunning: "Nothing runs here.",
		Trust: func(context.Context) (shelltrust.Resources, []shelltrust.Problem, error) {
			return shelltrust.Resources{}, nil, down
		},
	})
	for path, want := range map[string]struct {
		status int
		says   string
	}{
		"/":                      {http.StatusOK, down.Error()},
		"/policies":              {http.StatusOK, down.Error()},
		"/stores":                {http.StatusOK, down.Error()},
		"/decisions":             {http.StatusOK, "No decisions here."},
		"/decisions/01M8C95RNMT": {http.StatusNotFound, "No decisions here."},
		"/running":               {http.StatusOK, "Nothing runs here."},
		"/absent":                {http.StatusNotFound, "There is no such page."},
		"/decisions?page=0":      {http.StatusBadRequest, "a number from 1"},
		"/decisions?page=x":      {http.StatusBadRequest, "a number from 1"},
		"/decisions?image=" + strings.Repeat("x", console.MaxFilter+1): {http.StatusBadRequest, "longer than 512 bytes"},
	} {
		if answer := look(t, pages, path); answer.Code != want.status || !strings.Contains(words(answer.Body.String()), want.says) {
			t.Errorf("%s: %d %s; want %d %q", path, answer.Code, words(answer.Body.String()), want.status, want.says)
		}
	}
}

// TestConsoleIsReadOnlyAndGuarded sends what strangers would.
func TestConsoleIsReadOnlyAndGuarded(t *testing.T) {
	pages := consoleOf(t, function.ConsoleSources{})
	for sentence, tt := range map[string]struct {
		method, host string
		status       int
	}{
		"a browser on this machine":            {http.MethodGet, "localhost:8090", http.StatusOK},
		"without the name's port":              {http.MethodGet, "LOCALHOST", http.StatusOK},
		"by address":                           {http.MethodGet, "127.0.0.1:8090", http.StatusOK},
		"by address, version 6":                {http.MethodGet, "[::1]:8090", http.StatusOK},
		"the head alone":                       {http.MethodHead, "localhost:8090", http.StatusOK},
		"a name that points at this machine":   {http.MethodGet, "rebound.example:8090", http.StatusForbidden},
		"a name that begins like this machine": {http.MethodGet, "localhost.example", http.StatusForbidden},
		"an address of another machine":        {http.MethodGet, "10.0.0.7:8090", http.StatusForbidden},
		"no name":                              {http.MethodGet, "", http.StatusForbidden},
		"a form that is sent":                  {http.MethodPost, "localhost:8090", http.StatusMethodNotAllowed},
		"a deletion":                           {http.MethodDelete, "localhost:8090", http.StatusMethodNotAllowed},
	} {
		for _, path := range []string{"/", "/decisions", "/console.css"} {
			request := httptest.NewRequestWithContext(t.Context(), tt.method, "http://localhost"+path, nil)
			request.Host = tt.host
			answer := httptest.NewRecorder()
			pages.ServeHTTP(answer, request)
			if answer.Code != tt.status {
				t.Errorf("%s, %s: %d; want %d", sentence, path, answer.Code, tt.status)
			}
			policy := answer.Header().Get("Content-Security-Policy")
			if !strings.HasPrefix(policy, "default-src 'none';") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "script") ||
				answer.Header().Get("X-Content-Type-Options") != "nosniff" || answer.Header().Get("Referrer-Policy") != "no-referrer" || answer.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s, %s: the headers are %v", sentence, path, answer.Header())
			}
		}
	}
}

// tokens are reviewed by what they say.
type tokens struct{}

func (tokens) Review(_ context.Context, authorization string) (string, error) {
	switch authorization {
	case "Bearer auditor":
		return "auditor", nil
	case "Bearer tenant":
		return "", kube.ErrForbidden
	case "Bearer broken":
		return "", errors.New("the API server does not answer")
	}
	return "", kube.ErrUnauthenticated
}

// TestConsoleAuthenticates whom consoleUsers names, by a bearer token or by the form that browsers have, and nobody else.
func TestConsoleAuthenticates(t *testing.T) {
	c, err := function.NewConsole(function.Settings{}, function.ConsoleSettings{Users: []string{"auditor"}, Audiences: []string{"console"}}, function.ConsoleSources{
		Trust: func(context.Context) (shelltrust.Resources, []shelltrust.Problem, error) {
			return shelltrust.Resources{}, nil, nil
		},
	}, func(audiences, users []string) (function.CallerReview, error) {
		if !slices.Equal(audiences, []string{"console"}) || !slices.Equal(users, []string{"auditor"}) {
			t.Errorf("audiences %q, users %q", audiences, users)
		}
		return tokens{}, nil
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for token, status := range map[string]int{
		"auditor": http.StatusOK, "tenant": http.StatusForbidden, "broken": http.StatusServiceUnavailable, "": http.StatusUnauthorized, "guess": http.StatusUnauthorized,
	} {
		for way, set := range map[string]func(*http.Request){
			"bearer": func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) },
			"basic":  func(r *http.Request) { r.SetBasicAuth("anybody", token) },
		} {
			request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://console.example/decisions", nil)
			set(request)
			answer := httptest.NewRecorder()
			c.Handler().ServeHTTP(answer, request)
			if answer.Code != status || (status == http.StatusUnauthorized) != (answer.Header().Get("WWW-Authenticate") != "") {
				t.Errorf("%q as %s: %d %v; want %d", token, way, answer.Code, answer.Header(), status)
			}
		}
	}
}

// TestConsoleAddresses that others reach need users and TLS.
func TestConsoleAddresses(t *testing.T) {
	_, _, chain, private := newAuthority(t).issue(t, "console.example", false)
	certificate, key := filepath.Join(t.TempDir(), "tls.crt"), filepath.Join(t.TempDir(), "tls.key")
	for path, text := range map[string][]byte{certificate: chain, key: private} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	review := func(_, _ []string) (function.CallerReview, error) { return tokens{}, nil }
	for sentence, tt := range map[string]struct {
		address string
		users   []string
		tls     bool
		refused bool
	}{
		"none":                          {"", nil, false, false},
		"a port":                        {":8090", nil, false, false},
		"loopback":                      {"127.0.0.1:8090", nil, false, false},
		"loopback by name":              {"localhost:8090", nil, false, false},
		"all addresses":                 {"0.0.0.0:8090", nil, false, true},
		"all addresses, version 6":      {"[::]:8090", nil, false, true},
		"a name":                        {"console.example:8090", nil, false, true},
		"all addresses, with TLS":       {"0.0.0.0:8090", nil, true, true},
		"all addresses, with users":     {"0.0.0.0:8090", []string{"auditor"}, false, true},
		"all addresses, users and TLS":  {"0.0.0.0:8090", []string{"auditor"}, true, false},
		"no port":                       {"127.0.0.1", nil, false, true},
		"loopback with users, no TLS":   {":8090", []string{"auditor"}, false, false},
		"loopback in the form of a v4":  {"[::ffff:127.0.0.1]:8090", nil, false, false},
		"an address of a private range": {"10.0.0.7:8090", nil, false, true},
	} {
		settings := function.Settings{}
		if tt.tls {
			settings.TLSCertFile, settings.TLSKeyFile = certificate, key
		}
		_, err := function.NewConsole(settings, function.ConsoleSettings{Address: tt.address, Users: tt.users}, function.ConsoleSources{}, review, slog.New(slog.DiscardHandler))
		if (err != nil) != tt.refused {
			t.Errorf("%s: %v, want it refused: %t", sentence, err, tt.refused)
		}
	}
	if _, err := function.NewFilesConsole(function.Settings{TrustDir: t.TempDir()}, function.ConsoleSettings{Users: []string{"auditor"}}, nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("users are named where no cluster reviews their tokens")
	}
}
