package adversary_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"crypto/x509"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/adversary/oracle"
	"github.com/nirmata/kyverno-notation-venafi/adversary/world"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"

	"github.com/opencontainers/go-digest"
)

// bypass is a weakness of a peer or of a library, made public, and this service's answer to the same attack.
type bypass struct {
	arrange func(*testing.T, *world.World) (images []string) // in containers c0, c1, ... of a pod
	change  func(*function.Settings)
	request string // instead of the pod; %s is the first image
	status  int    // 0 for any but 200
	says    string
	after   func(*testing.T, *world.World, *service)
}

// TestPublicBypasses sends what opened other verifiers.
func TestPublicBypasses(t *testing.T) {
	for name, test := range bypasses() {
		t.Run(name, func(t *testing.T) {
			w := world.Bare("w7", shared.signers)
			shared.server.Add(w)
			defer shared.server.Remove(w)
			shared.server.Strange()
			images := test.arrange(t, w)
			s := startService(t, map[string][]byte{"w7": w.TrustFile()}, []string{"w7.example", "other.example"}, test.change)
			body := podOf(images...)
			if test.request != "" {
				body = fmt.Sprintf(test.request, images[0])
			}
			a := s.ask("/checkimages", []byte(body))
			if a.Status != test.status && (test.status != 0 || a.Status == http.StatusOK) || !strings.Contains(a.Text, test.says) {
				t.Errorf("answer %d %s\nwant %d and %q", a.Status, a.Text, test.status, test.says)
			}
			if test.after != nil {
				test.after(t, w, s)
			}
		})
	}
}

func podOf(images ...string) string {
	var containers []string
	for i, image := range images {
		containers = append(containers, fmt.Sprintf(`{"name":"c%d","image":%q}`, i, image))
	}
	return fmt.Sprintf(`{"trustPolicy":"w7-p","object":{"apiVersion":"v1","kind":"Pod","spec":{"containers":[%s]}}}`, strings.Join(containers, ","))
}

// release signs with the key that the trust policy trusts.
func release() world.Envelope { return world.Envelope{Signer: shared.signers.Get("acme-release")} }

// signedAndNot pushes app:v1, which is signed, and app:evil, which is not.
func signedAndNot(w *world.World) (signed, evil world.Subject) {
	w.Trust("strict", "*")
	signed, evil = w.PushImage("app", "v1", "signed"), w.PushImage("app", "evil", "not signed")
	w.Sign("app", signed, release())
	return signed, evil
}

func bypasses() map[string]bypass {
	all := map[string]bypass{}
	for _, some := range []map[string]bypass{ofNames(), ofMovingTags(), ofClaims(), ofAddresses(), ofNotation(), ofLists()} {
		for name, test := range some {
			all[name] = test
		}
	}
	return all
}

// ofNames: a name that looks like a trusted one.
func ofNames() map[string]bypass {
	skipping := func(scope, image string) func(*testing.T, *world.World) []string {
		return func(_ *testing.T, w *world.World) []string {
			w.Trust("strict", "*")
			w.Trust("skip", scope)
			for _, path := range []string{"app", "w7.example/app", "apps", "app/more", "x.w7.example/app"} {
				w.PushImage(path, "v1", path)
			}
			return []string{image}
		}
	}
	return map[string]bypass{
		"Portieris 0.14.2, a trusted host within a path":       {arrange: skipping("w7.example/app", "w7.example/w7.example/app:v1"), status: 406, says: "no signature"},
		"Portieris 0.14.2, a trusted host below another":       {arrange: skipping("trusted.example/app", "w7.example/x.w7.example/app:v1"), status: 406, says: "no signature"},
		"Portieris 0.14.2, a wildcard for the start of a host": {arrange: skipping("*.example/app", "w7.example/app:v1"), status: 406},
		"Gatekeeper library #529, a name that goes on":         {arrange: skipping("w7.example/app", "w7.example/apps:v1"), status: 406, says: "no signature"},
		"Gatekeeper library #529, a path that goes on":         {arrange: skipping("w7.example/app", "w7.example/app/more:v1"), status: 406, says: "no signature"},
		"Portieris #337, a short name of Docker Hub is its long one": {
			arrange: func(_ *testing.T, w *world.World) []string {
				w.Trust("skip", "docker.io/library/w7")
				return []string{"w7"}
			}, status: 200,
		},
	}
}

// ofMovingTags: a tag that is one image when it is verified and another when it is pinned.
func ofMovingTags() map[string]bypass {
	signed := map[string]string{} // the digest that must be pinned, by test
	swap := func(good bool) func(*testing.T, *world.World) []string {
		return func(t *testing.T, w *world.World) []string {
			first, second := signedAndNot(w)
			signed[t.Name()] = first.Digest
			if !good {
				w.Tag("app", "v1", second)
				first, second = second, first
			}
			w.Swap("app", "v1", second)
			return []string{"w7.example/app:v1", "w7.example/app:v1", "w7.example/app:v1"}
		}
	}
	moved := func(t *testing.T, w *world.World, s *service) {
		first := s.ask("/checkimages", []byte(podOf("w7.example/app:v1")))
		evil := w.PushImage("app", "v1", "moved")
		for range 3 {
			a := s.ask("/checkimages", []byte(podOf("w7.example/app:v1")))
			if a.Status == http.StatusOK && strings.Contains(a.Text, evil.Digest) {
				t.Errorf("after %s it pins what was never verified: %s", first.Text, a.Text)
			}
		}
	}
	return map[string]bypass{
		"CVE-2022-47633, another digest at the second look": {arrange: swap(true), status: 200, after: func(t *testing.T, _ *world.World, s *service) {
			a := s.ask("/checkimages", []byte(podOf("w7.example/app:v1", "w7.example/app:v1")))
			for _, r := range a.Results {
				if r.Op != "" && !strings.HasSuffix(r.Value, signed[t.Name()]) {
					t.Errorf("pinned to %s, which is not signed", r.Value)
				}
			}
		}},
		"CVE-2022-47633, the signed one at the second look": {arrange: swap(false), status: 406, says: "no signature"},
		"kyverno#16213, a tag that moves after it was kept": {arrange: func(_ *testing.T, w *world.World) []string {
			signedAndNot(w)
			return []string{"w7.example/app:v1"}
		}, status: 200, after: moved},
		"kyverno#16213, without a kept tag": {arrange: func(_ *testing.T, w *world.World) []string {
			signedAndNot(w)
			return []string{"w7.example/app:v1"}
		}, change: func(s *function.Settings) { s.TagCacheTTL = 0 }, status: 200, after: moved},
	}
}

// ofClaims: the object says of itself that it was verified.
func ofClaims() map[string]bypass {
	evil := func(_ *testing.T, w *world.World) []string {
		signedAndNot(w)
		return []string{"w7.example/app:evil"}
	}
	pod := func(metadata string) string {
		return `{"trustPolicy":"w7-p","object":{"apiVersion":"v1","kind":"Pod","metadata":` + metadata + `,"spec":{"containers":[{"name":"c","image":%q}]}}}`
	}
	claims := map[string]string{
		"kyverno#11544, the annotation verify-images":               `{"annotations":{"kyverno.io/verify-images":"{\"w7.example/app:evil\":\"pass\"}"}}`,
		"kyverno#16336, the annotation image-verification-outcomes": `{"annotations":{"kyverno.io/image-verification-outcomes":"{\"p\":{\"status\":\"pass\"}}"}}`,
		"Portieris 0.14.3, an owner that is made up":                `{"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"x","uid":"x","controller":true}]}`,
		"a deletion that is made up":                                `{"deletionTimestamp":"2020-01-01T00:00:00Z","finalizers":["x"]}`,
		"a namespace that policies leave out":                       `{"namespace":"kube-system"}`,
	}
	tests := map[string]bypass{}
	for name, metadata := range claims {
		tests[name] = bypass{arrange: evil, request: pod(metadata), status: 406, says: "no signature"}
	}
	tests["kyverno#11544, in the request's own metadata"] = bypass{
		arrange: evil, status: 406, says: "no signature",
		request: `{"trustPolicy":"w7-p","metadata":{"annotations":{"kyverno.io/verify-images":"pass"}},"insecure":true,"object":{"kind":"Pod","spec":{"containers":[{"name":"c","image":%q}]}}}`,
	}
	return tests
}

// ofAddresses: the service is made to ask where it should not, or to tell a secret.
func ofAddresses() map[string]bypass {
	silent := func(t *testing.T, _ *world.World, _ *service) {
		for _, call := range shared.server.Strange() {
			t.Errorf("it asked %s for %s, with the authorization %q", call.Host, call.Path, call.Authorization)
		}
	}
	image := func(name string) func(*testing.T, *world.World) []string {
		return func(_ *testing.T, w *world.World) []string {
			w.Trust("strict", "*")
			return []string{name}
		}
	}
	redirect := func(kind, to string) func(*testing.T, *world.World) []string {
		return func(_ *testing.T, w *world.World) []string {
			signedAndNot(w)
			w.Spoil(kind, func(a *world.Answer) {
				a.Status, a.Body = http.StatusTemporaryRedirect, nil
				a.Header.Set("Location", to)
			})
			return []string{"w7.example/app:v1"}
		}
	}
	tests := map[string]bypass{}
	for _, address := range []string{
		"169.254.169.254", "169.254.169.254:80", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "100.100.100.200", "168.63.129.16",
		"metadata.google.internal", "127.0.0.1:1", "localhost:1", "0.0.0.0:1", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::1]",
	} {
		tests["CVE-2026-4789, an image at "+address] = bypass{arrange: image(address + "/latest/meta-data:v1"), after: silent}
	}
	for _, kind := range []string{"resolve", "list", "blob"} {
		for _, to := range []string{"http://169.254.169.254/latest", "http://127.0.0.1:1/", "http://[::ffff:a9fe:a9fe]/", "http://2852039166/", "http://0xa9fea9fe/"} {
			tests["CVE-2026-4789, "+kind+" redirected to "+to] = bypass{arrange: redirect(kind, to), status: 502, after: silent}
		}
	}
	tests["CVE-2026-4789, a realm at the metadata service"] = bypass{arrange: realm("http://169.254.169.254/token"), status: 502, after: silent}
	for _, kind := range []string{"resolve", "manifest", "blob", "list"} {
		tests["CVE-2026-41323, "+kind+" redirected with credentials"] = bypass{arrange: guarded(kind, func(a *world.Answer) {
			a.Status = http.StatusTemporaryRedirect
			a.Header.Set("Location", "http://other.example/steal")
		}), change: withCredentials, after: toldNoSecret}
	}
	tests["CVE-2026-41323, the next page at another host"] = bypass{arrange: guarded("list", func(a *world.Answer) {
		a.Header.Set("Link", `<http://other.example/v2/app/referrers/x>; rel="next"`)
	}), change: withCredentials, status: 502, after: toldNoSecret}
	tests["CVE-2026-41323, no trick and the password is taken"] = bypass{
		arrange: guarded("list", func(*world.Answer) {}), change: withCredentials, status: 200, after: toldNoSecret,
	}
	return tests
}

// guarded has the registry want a password, and play a trick on those who have it.
func guarded(kind string, trick func(*world.Answer)) func(*testing.T, *world.World) []string {
	return func(_ *testing.T, w *world.World) []string {
		signedAndNot(w)
		w.Spoil(kind, trick)
		w.Spoil("", func(a *world.Answer) {
			if a.Request.Header.Get("Authorization") == "" {
				a.Status, a.Body = http.StatusUnauthorized, nil
				a.Header = http.Header{"Www-Authenticate": {`Basic realm="w7"`}}
			}
		})
		return []string{"w7.example/app:v1"}
	}
}

// realm has the registry want tokens of someone.
func realm(address string) func(*testing.T, *world.World) []string {
	return func(_ *testing.T, w *world.World) []string {
		signedAndNot(w)
		w.Spoil("", func(a *world.Answer) {
			a.Status, a.Body = http.StatusUnauthorized, nil
			a.Header.Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="x",scope="repository:app:pull"`, address))
		})
		return []string{"w7.example/app:v1"}
	}
}

// withCredentials gives the service a password for the world's registry.
func withCredentials(s *function.Settings) {
	s.DockerConfig = filepath.Join(s.TrustDir, "docker-config")
	secret := base64.StdEncoding.EncodeToString([]byte("robot:secret"))
	_ = os.WriteFile(s.DockerConfig, fmt.Appendf(nil, `{"auths":{"w7.example":{"auth":%q}}}`, secret), 0o600)
}

func toldNoSecret(t *testing.T, _ *world.World, _ *service) {
	for _, call := range shared.server.Strange() {
		if call.Authorization != "" {
			t.Errorf("%s was told %q", call.Host, call.Authorization)
		}
	}
}

// ofNotation: the advisories of notation and notation-go.
func ofNotation() map[string]bypass {
	return map[string]bypass{
		"CVE-2023-33957 and 33958, signatures without end": {arrange: func(_ *testing.T, w *world.World) []string {
			w.Trust("strict", "*")
			image := w.PushImage("app", "v1", "buried")
			for i := range 60 {
				w.Attach("app", image, world.JWS, fmt.Appendf(nil, `{"junk":%d}`, i))
			}
			w.Sign("app", image, release())
			return []string{"w7.example/app:v1"}
		}, status: 406, says: "TooManySignatures"},
		"CVE-2023-33957, pages without end": {arrange: func(_ *testing.T, w *world.World) []string {
			signedAndNot(w)
			page := 0
			w.Spoil("list", func(a *world.Answer) {
				page++
				a.Header.Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, a.Request.URL.Path, page))
			})
			return []string{"w7.example/app:v1"}
		}, status: 502},
		"CVE-2023-33959, another image for a digest": {arrange: func(_ *testing.T, w *world.World) []string {
			signed, evil := signedAndNot(w)
			w.Spoil("manifest", func(a *world.Answer) {
				if strings.HasSuffix(a.Request.URL.Path, evil.Digest) {
					a.Header.Set("Docker-Content-Digest", signed.Digest)
					a.Header.Set("Content-Length", fmt.Sprint(signed.Size))
				}
			})
			return []string{"w7.example/app@" + evil.Digest}
		}, status: 502},
		"CVE-2023-33959, the signature of another image": {arrange: func(t *testing.T, w *world.World) []string {
			signed, evil := signedAndNot(w)
			e := release()
			e.Time = time.Now().Add(-time.Hour)
			envelope, err := e.Make(signed)
			if err != nil {
				t.Fatal(err)
			}
			w.Attach("app", evil, world.JWS, envelope)
			return []string{"w7.example/app:evil"}
		}, status: 406, says: "SignatureMismatch"},
		"CVE-2024-23332, an outdated image whose signature has expired": {arrange: func(_ *testing.T, w *world.World) []string {
			w.Trust("strict", "*")
			image, e := w.PushImage("app", "v1", "outdated"), release()
			e.Time, e.Expiry = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
			w.Sign("app", image, e)
			return []string{"w7.example/app:v1"}
		}, status: 406, says: "SignatureExpired"},
		"CVE-2024-51491, a CRL without a place for temporary files": {arrange: revocable(false), change: func(s *function.Settings) { s.AllowLoopback = true }, status: 200},
		"a certificate that its CRL lists":                          {arrange: revocable(true), change: func(s *function.Settings) { s.AllowLoopback = true }, status: 406, says: "CertificateRevoked"},
		"CVE-2024-56138, a timestamp of a revoked authority":        {arrange: stamped(true), change: func(s *function.Settings) { s.AllowLoopback = true }, status: 406},
		"a timestamp of an authority that is not revoked":           {arrange: stamped(false), change: func(s *function.Settings) { s.AllowLoopback = true }, status: 200},
	}
}

// trusting sets the one trust policy with stores of one's own.
func trusting(w *world.World, stores map[string]*signingtest.CA) {
	statement := oracle.Statement{Name: "all", Scopes: []string{"*"}, Level: "strict", Identities: []string{"*"}}
	for kind, ca := range stores {
		w.Case.Trust.Stores = append(w.Case.Trust.Stores, oracle.Store{Name: "own", Type: kind, Bundle: string(ca.PEM())})
		statement.Stores = append(statement.Stores, kind+":own")
	}
	slices.Sort(statement.Stores)
	w.Case.Trust.Policies = []oracle.Policy{{Name: "w7-p", Version: "1.0", Statements: []oracle.Statement{statement}}}
}

// signWith has notation's own library sign an image.
func signWith(t *testing.T, w *world.World, signer *signingtest.Signer, request signingtest.SignRequest) []string {
	t.Helper()
	image := w.PushImage("app", "v1", "signed by the library")
	request.Subject = ocispec.Descriptor{MediaType: image.MediaType, Digest: digest.Digest(image.Digest), Size: image.Size}
	envelope := must(signer.Sign(t.Context(), request))
	w.Attach("app", image, world.JWS, envelope)
	return []string{"w7.example/app:v1"}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// revocable signs with a certificate that a CRL speaks of, on a machine without a directory for temporary files.
func revocable(revoked bool) func(*testing.T, *world.World) []string {
	return func(t *testing.T, w *world.World) []string {
		t.TempDir() // before it is gone
		t.Setenv("TMPDIR", "/nonexistent")
		ca := must(signingtest.NewCA(signingtest.Options{}))
		responder := must(signingtest.NewRevocationServer(ca))
		t.Cleanup(func() { _ = responder.Close() })
		signer := must(ca.Issue(signingtest.LeafOptions{CRLURL: responder.CRLURL()}))
		if revoked {
			responder.Revoke(signer.Certificate.SerialNumber)
		}
		trusting(w, map[string]*signingtest.CA{"ca": ca})
		return signWith(t, w, signer, signingtest.SignRequest{})
	}
}

// stamped signs with a certificate that has expired since, and has an authority vouch for the time.
func stamped(revoked bool) func(*testing.T, *world.World) []string {
	return func(t *testing.T, w *world.World) []string {
		ca, root := must(signingtest.NewCA(signingtest.Options{})), must(signingtest.NewCA(signingtest.Options{CommonName: "Clock Root"}))
		responder := must(signingtest.NewRevocationServer(root))
		t.Cleanup(func() { _ = responder.Close() })
		clock := must(root.Intermediate(signingtest.Options{CommonName: "Clock", CRLURL: responder.CRLURL()}))
		if revoked {
			responder.Revoke(clock.Certificate.SerialNumber)
		}
		then := time.Now().AddDate(-1, -1, 0)
		former := must(ca.Issue(signingtest.LeafOptions{NotBefore: then.AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(-1, 0, 0)}))
		roots := x509.NewCertPool()
		roots.AddCert(root.Certificate)
		trusting(w, map[string]*signingtest.CA{"ca": ca, "tsa": root})
		stamper := must(signingtest.NewTSA(clock, func() time.Time { return then }))
		return signWith(t, w, former, signingtest.SignRequest{SigningTime: then, Timestamper: stamper, TimestampRoots: roots})
	}
}

// ofLists: a list of attestations of which a part is lost, and with the part the one that stands against the image.
func ofLists() map[string]bypass {
	const demand = `{"trustPolicy":"w7-p","attestations":[{"imageReference":"*","type":[{"name":"application/vnd.cyclonedx+json","conditions":{"all":[{"key":"{{ licence }}","operator":"AnyNotIn","value":["GPL-3.0"]}]}}]}],"object":{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"c","image":%q}]}}}`
	second := func(spoil func(*world.Answer)) bypass {
		return bypass{request: demand, arrange: func(_ *testing.T, w *world.World) []string {
			signed, _ := signedAndNot(w)
			for _, licence := range []string{"MIT", "GPL-3.0"} {
				w.Sign("app", w.Attest("app", signed, "application/vnd.cyclonedx+json", fmt.Appendf(nil, `{"licence":%q}`, licence)), release())
			}
			w.Pages(1)
			w.Spoil("list", func(a *world.Answer) {
				if a.Request.URL.Query().Has("from") {
					spoil(a)
				}
			})
			return []string{"w7.example/app:v1"}
		}}
	}
	tests := map[string]bypass{"half a list, no page is lost": second(func(*world.Answer) {})}
	whole := tests["half a list, no page is lost"]
	whole.status, whole.says = 406, "ConditionUnmet"
	tests["half a list, no page is lost"] = whole
	for _, status := range []int{200, 400, 404, 405, 410, 501} {
		for _, mediaType := range []string{"text/html", "application/json", "application/vnd.oci.image.index.v1+json"} {
			tests[fmt.Sprintf("half a list, the second page is %d of %s", status, mediaType)] = second(func(a *world.Answer) {
				a.Status, a.Body = status, []byte("<html>not here</html>")
				a.Header = http.Header{"Content-Type": {mediaType}}
			})
		}
	}
	tests["a fallback tag that someone left, after one 404 of the referrers API"] = staleTag(demand)
	return tests
}

// staleTag has a tag hold a part of the referrers that the API lists. The API is not there once.
func staleTag(demand string) bypass {
	return bypass{request: demand, status: http.StatusOK, arrange: func(_ *testing.T, w *world.World) []string {
		first, _ := signedAndNot(w)
		w.Sign("app", w.Attest("app", first, "application/vnd.cyclonedx+json", []byte(`{"licence":"MIT"}`)), release())
		second := w.PushImage("app", "v2", "signed, too")
		w.Sign("app", second, release())
		good := w.Attest("app", second, "application/vnd.cyclonedx+json", []byte(`{"licence":"MIT"}`))
		bad := w.Attest("app", second, "application/vnd.cyclonedx+json", []byte(`{"licence":"GPL-3.0"}`))
		w.Sign("app", good, release())
		w.Sign("app", bad, release())
		asked := 0
		w.Spoil("list", func(a *world.Answer) {
			if _, tag, byTag := strings.Cut(a.Request.URL.Path, "/manifests/"); byTag {
				a.Status, a.Body = http.StatusOK, w.Index("app", strings.Replace(tag, "-", ":", 1), bad.Digest)
				a.Header = http.Header{"Content-Type": {"application/vnd.oci.image.index.v1+json"}, "Docker-Content-Digest": {world.Digest(a.Body)}}
				a.Header.Set("Content-Length", fmt.Sprint(len(a.Body)))
			} else if asked++; asked == 1 {
				a.Status = http.StatusNotFound
			}
		})
		return []string{"w7.example/app:v1"}
	}, after: func(t *testing.T, _ *world.World, s *service) {
		if a := s.ask("/checkimages", fmt.Appendf(nil, demand, "w7.example/app:v2")); a.Status != http.StatusNotAcceptable || !strings.Contains(a.Text, "ConditionUnmet") {
			t.Errorf("the tag went before the API: %d %s", a.Status, a.Text)
		}
	}}
}
