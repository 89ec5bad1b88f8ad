package adversary_test

import (
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"github.com/nirmata/kyverno-notation-venafi/adversary/oracle"
	"github.com/nirmata/kyverno-notation-venafi/adversary/world"
	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// plainHost is a registry whose name nobody can object to.
var plainHost = regexp.MustCompile(`^[a-z][a-z0-9]{0,20}(\.[a-z][a-z0-9]{0,20})+/`)

// FuzzReferences holds that the service and the oracle read one image in a name, or none.
func FuzzReferences(f *testing.F) {
	hex := strings.Repeat("0123456789abcdef", 4)
	for _, name := range []string{
		"nginx", "library/nginx:1", "docker.io/nginx", "index.docker.io/nginx", "registry-1.docker.io/library/nginx:v1", "reg.example:0443/app",
		"reg.example:443/app:v1", "REG.example/app", "localhost/app", "LOCALHOST/app", "Reg/app", "reg.example/app@sha256:" + hex, "sha256:" + hex, hex,
		"[::1]:5000/app", "[0:0::1]:5000/app", "127.0.0.1:80/a", "my_reg.example/app", "reg.example:65536/app", "reg.example/a__b/c--d.e", "reg.example/app:v1@sha512:" + hex + hex,
		"docker.io:443/nginx", "docker.io:80/nginx", "REG:0443/app", "reg.example./app", "-reg.example/app", "reg.example:/app", " reg.example/app", "a/b/c:d", "reg.example/app:" + strings.Repeat("x", 129),
	} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		ours, err := image.Parse(name)
		theirs, ok := oracle.ParseReference(name)
		switch {
		case err == nil && !ok && !strings.Contains(name, "@sha512:") && !strings.Contains(name, "@sha384:"):
			t.Fatalf("%q is %+v to the service and nothing to the oracle", name, ours)
		case err != nil && ok && plainHost.MatchString(theirs.Name):
			t.Fatalf("%q is %+v to the oracle, and to the service: %v", name, theirs, err)
		case err == nil && ok && (theirs != oracle.Reference{Name: ours.Name(), Tag: ours.Tag, Digest: ours.Digest}):
			t.Fatalf("%q is %+v to the service and %+v to the oracle", name, ours, theirs)
		}
	})
}

// FuzzPatterns holds that an image is passed over only where the oracle, too, sees no pattern that matches, and none that
// can match nothing at all.
func FuzzPatterns(f *testing.F) {
	for _, pattern := range []string{
		"*", "nginx", "nginx*", "library/nginx:*", "docker.io/*", "index.docker.io/*", "reg.example/*", "REG.example:0443/*", "*.example/app", "reg.example/app:v?", "reg.example/app",
		"https://reg.example/*", " reg.example/*", "reg.example/*\n", "reg.example", "?eg.example/app*", "reg*/app", "docker.io/nginx@sha256:*", "**", "localhost/*", "[::1]:5000/*",
	} {
		for _, name := range []string{"nginx", "reg.example/app:v1", "reg.example:443/app", "LOCALHOST/app@sha256:" + strings.Repeat("ab", 32)} {
			f.Add(pattern, name)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		ref, ok := oracle.ParseReference(name)
		if !ok || !utf8.ValidString(pattern) {
			return
		}
		body := must(json.Marshal(map[string]any{
			"trustPolicy": "p", "imageReferences": []string{pattern},
			"object": map[string]any{"kind": "Pod", "spec": map[string]any{"containers": []any{map[string]any{"name": "c", "image": name}}}},
		}))
		request, err := core.ParseRequest(body)
		if err != nil {
			return
		}
		plan, err := core.NewPlan(request, trust.Snapshot{}, "")
		if err != nil || len(plan.Images) != 1 || plan.Images[0].Decided == nil {
			t.Fatalf("%s: %+v, %v", body, plan, err)
		}
		if plan.Images[0].Decided.Code == reason.NotSelected && (oracle.Matches(pattern, ref) || oracle.Dead(pattern)) {
			t.Fatalf("%q passes %q over; it matches: %t, it can match nothing: %t", pattern, name, oracle.Matches(pattern, ref), oracle.Dead(pattern))
		}
	})
}

// FuzzObjects holds that no image is left out that an API server would find in an object of a kind that it knows.
func FuzzObjects(f *testing.F) {
	for seed := range uint64(40) {
		w, err := world.New(seed, shared.signers)
		if err != nil {
			f.Fatal(err)
		}
		for _, request := range w.Requests {
			var body struct{ Object json.RawMessage }
			if json.Unmarshal(request.Body, &body) == nil && body.Object != nil {
				f.Add([]byte(body.Object))
			}
		}
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		request, err := core.ParseRequest(slices.Concat([]byte(`{"trustPolicy":"p","object":`), object, []byte(`}`)))
		if err != nil {
			return
		}
		fields, ok := oracle.Fields(object)
		if !ok {
			return
		}
		for _, field := range fields {
			if !slices.ContainsFunc(request.Images, func(i core.Image) bool { return string(i.Pointer) == field.Pointer && i.Written == field.Image }) {
				t.Fatalf("%s: %s %q is left out", object, field.Pointer, field.Image)
			}
		}
	})
}

// FuzzTrust holds that a trust policy which the service takes is one by the specification, and that it takes those.
func FuzzTrust(f *testing.F) {
	f.Add("1.0", "strict", "*", "reg.example/app", "ca:acme", "x509.subject: C=US, ST=WA, O=Acme", "", "")
	f.Add("1.0", "audit", "docker.io/nginx", "docker.io/library/nginx", "ca:acme", "*", "expiry", "log")
	f.Add("1.0", "skip", "reg.example:443/app", "REG.example/app", "", "", "", "")
	f.Add("1.1", "permissive", "reg.example/*", "https://reg.example/app", "tsa:x", "x509.subject: O=Acme", "integrity", "skip")
	f.Add("", "Strict", "", " ", "ca:", "x509.subject", "revocation", "skip")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, version, level, scope, other, store, identity, check, action string) {
		policy := oracle.Policy{Name: "p", Version: version, Statements: []oracle.Statement{
			{Name: "a", Scopes: []string{scope}, Level: level}, {Name: "b", Scopes: []string{other}, Level: level},
		}}
		for i := range policy.Statements {
			s := &policy.Statements[i]
			if store != "" {
				s.Stores, s.Identities = []string{store}, []string{identity}
			}
			if check != "" {
				s.Override = map[string]string{check: action}
			}
		}
		w := world.Bare("w9", shared.signers)
		w.Case.Trust.Policies = []oracle.Policy{policy}
		if err := os.WriteFile(filepath.Join(dir, "p.json"), w.TrustFile(), 0o600); err != nil {
			t.Fatal(err)
		}
		files, err := shelltrust.OpenFiles(dir, slog.New(slog.DiscardHandler), func() {})
		if err != nil {
			t.Fatal(err)
		}
		snapshot, _ := files.Snapshot()
		compiled, known := snapshot.Policies["p"]
		if opinion, why := policy.Valid(); known && compiled.Problem == "" && opinion == oracle.No {
			t.Fatalf("%s\nis used, and should not be: %s", w.TrustFile(), why)
		}
	})
}

// FuzzEnvelopes holds that an image whose only signature is some envelope is admitted only where the oracle verifies it.
func FuzzEnvelopes(f *testing.F) {
	build := func() (*world.World, world.Subject) {
		w := world.Bare("w9", shared.signers)
		w.Trust("strict", "*")
		return w, w.PushImage("app", "v1", "signed")
	}
	w, image := build()
	for _, signer := range []string{"acme-release", "acme-release-rsa", "mallory-release", "acme-build", "acme-expired"} {
		for _, format := range []string{world.JWS, world.COSE} {
			e := world.Envelope{Format: format, Signer: shared.signers.Get(signer), Time: time.Now().Add(-time.Hour)}
			f.Add(format == world.COSE, must(e.Make(image)))
		}
	}
	s := startService(f, map[string][]byte{"w9": w.TrustFile()}, w.Hosts, func(s *function.Settings) { s.CacheEnabled = false })
	f.Fuzz(func(t *testing.T, cose bool, envelope []byte) {
		w, image := build()
		w.Attach("app", image, map[bool]string{false: world.JWS, true: world.COSE}[cose], envelope)
		shared.server.Add(w)
		request := oracle.Request{TrustPolicy: "w9-p", Fields: []oracle.Field{{Pointer: "/spec/containers/0/image", Image: "w9.example/app:v1"}}}
		a := s.ask("/checkimages", []byte(strings.ReplaceAll(podOf("w9.example/app:v1"), "w7-p", "w9-p")))
		judgements, _ := w.Case.Judge(request)
		if a.Status == http.StatusOK && judgements[0].Opinion == oracle.No {
			t.Fatalf("admitted: %s", a.Text)
		}
		if a.Status != http.StatusOK && a.Status != http.StatusNotAcceptable {
			t.Fatalf("not denied: %d %s", a.Status, a.Text)
		}
	})
}

// FuzzLists holds that a list of referrers is taken for whole only where its last page was read, and that no other host
// is asked for a page.
func FuzzLists(f *testing.F) {
	index := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	const indexType = "application/vnd.oci.image.index.v1+json"
	for _, link := range []string{
		"", `</v2/app/referrers/x?from=1>; rel="next"`, `<?from=1>; rel=next`, `</a>; rel="prev", <?from=1>; rel="next"`, `<http://other.example/>; rel="next"`,
		`<?from=1>; title="a, <b>; rel=prev"; rel="last next"`, `<?from=1>; REL=NEXT`, `<>; rel="next"`, `<?a,b>; rel="next"`, `<?from=1>;rel="prev";rel="next"`, `<http://169.254.169.254/>; rel=next`,
	} {
		f.Add(200, indexType, link, index)
	}
	f.Add(404, "text/html", "", "<html>")
	f.Add(200, "text/html", "", index)
	client, err := registry.New(registry.Options{InsecureHosts: []string{"w9.example"}, MaxReferrers: 200})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, mediaType, link, body string) {
		if status < 200 || status > 599 || strings.ContainsAny(link+mediaType, "\r\n\x00") {
			return
		}
		w, pages := world.Bare("w9", shared.signers), 0
		pushed := w.PushImage("app", "v1", "of many")
		w.Spoil("list", func(a *world.Answer) {
			if pages++; pages == 1 {
				a.Status, a.Body = status, []byte(body)
				a.Header = http.Header{"Content-Type": {mediaType}, "Link": {link}, "Retry-After": {"0"}}
			}
		})
		shared.server.Add(w)
		shared.server.Strange()
		repository := client.Repository(image.Reference{Registry: "w9.example", Repository: "app"})
		_, _, err := repository.Referrers(t.Context(), digest.Digest(pushed.Digest), "application/vnd.example")
		if target, more := oracle.NextLink([]string{link}); err == nil && status == 200 && more && pages < 2 {
			t.Fatalf("Link %q: the page at %q was not asked for, and the list is taken for whole", link, target)
		}
		if calls := shared.server.Strange(); len(calls) > 0 {
			t.Fatalf("Link %q: %v were asked", link, calls)
		}
	})
}

// bytesSource draws from bytes first: one for each choice, so that a fuzzer can change one.
type bytesSource struct {
	data []byte
	rest rand.Source
}

// Uint64 is part of rand.Source.
func (s *bytesSource) Uint64() uint64 {
	if len(s.data) == 0 {
		return s.rest.Uint64()
	}
	next := s.data[0]
	s.data = s.data[1:]
	return uint64(next)<<56 | 1<<55
}

// FuzzWorlds holds the service against the oracle in worlds that the fuzzer changes choice by choice.
func FuzzWorlds(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		data := make([]byte, 200)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		f.Add(data)
	}
	plugins := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := world.From(8, &bytesSource{data, rand.NewPCG(8, 13)}, shared.signers)
		if err != nil {
			t.Fatal(err)
		}
		shared.server.Add(w)
		s := startService(t, map[string][]byte{w.Name: w.TrustFile()}, hostsOf(w), func(s *function.Settings) { s.PluginDir = plugins })
		for i, request := range w.Requests {
			a := s.ask("/checkimages", request.Body)
			for _, d := range compare(w, request, a) {
				t.Errorf("request %d: %s: %s\nanswer %d %.1500s\n%s", i, d.kind, d.text, a.Status, a.Text, w)
			}
		}
	})
}

// hostsOf lists a world's registries, and the one that all worlds share.
func hostsOf(w *world.World) []string { return append([]string{"docker.io"}, w.Hosts...) }
