package registrytest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest/distribution"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

const sbomType = "application/spdx+json"

func TestMain(m *testing.M) {
	// The one goroutine that distribution never ends.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"))
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func start(t *testing.T, options registrytest.Options) *registrytest.Registry {
	t.Helper()
	reg := registrytest.New(options)
	t.Cleanup(reg.Close)
	return reg
}

func repository(reg *registrytest.Registry) *remote.Repository {
	plain := strings.HasPrefix(reg.URL(), "http://")
	return must(signingtest.Repository(reg.Host(), "team/app", reg.Client(), plain))
}

// referrers lists what refers to a subject, page by page.
func referrers(ctx context.Context, repo *remote.Repository, subject ocispec.Descriptor, artifactType string) (found []ocispec.Descriptor, pages int, err error) {
	err = repo.Referrers(ctx, subject, artifactType, func(page []ocispec.Descriptor) error {
		pages++
		found = append(found, page...)
		return nil
	})
	return found, pages, err
}

// pushSBOMs pushes n SBOMs of an image and returns their digests, sorted.
func pushSBOMs(t *testing.T, repo *remote.Repository, image ocispec.Descriptor, n int) []string {
	t.Helper()
	var digests []string
	for i := range n {
		payload := fmt.Appendf(nil, `{"number": %d}`, i)
		pushed := must(signingtest.PushReferrer(t.Context(), repo, image, sbomType, payload, sbomType))
		digests = append(digests, string(pushed.Digest))
	}
	slices.Sort(digests)
	return digests
}

func digestsOf(descriptors []ocispec.Descriptor) []string {
	var digests []string
	for _, descriptor := range descriptors {
		digests = append(digests, string(descriptor.Digest))
	}
	slices.Sort(digests)
	return digests
}

func TestPushAndPull(t *testing.T) {
	tests := map[string]struct {
		handler  func(context.Context) http.Handler // nil is the default
		tls      bool
		fallback bool // referrers are under the fallback tag
	}{
		"the registry in memory has the referrers API":      {},
		"the registry in memory also speaks TLS":            {tls: true},
		"the distribution registry has the fallback tag":    {handler: distribution.New, fallback: true},
		"the distribution registry has it over TLS as well": {handler: distribution.New, fallback: true, tls: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			options := registrytest.Options{TLS: test.tls}
			if test.handler != nil {
				options.Handler = test.handler(t.Context())
			}
			repo := repository(start(t, options))
			image := must(signingtest.PushImage(t.Context(), repo, "v1", signingtest.Image{Layers: [][]byte{[]byte("one"), []byte("two")}}))
			index := must(signingtest.PushIndex(t.Context(), repo, "multi"))
			for tag, pushed := range map[string]ocispec.Descriptor{"v1": image, "multi": index} {
				resolved := must(repo.Resolve(t.Context(), tag))
				if !content.Equal(resolved, pushed) {
					t.Errorf("%s resolves to %v, want %v", tag, resolved, pushed)
				}
				must(content.FetchAll(t.Context(), repo, resolved))
			}
			pushed := pushSBOMs(t, repo, image, 3)
			found, _, err := referrers(t.Context(), repo, image, sbomType)
			if err != nil || !slices.Equal(digestsOf(found), pushed) {
				t.Errorf("found referrers %v (%v), want %v", digestsOf(found), err, pushed)
			}
			_, err = repo.Resolve(t.Context(), strings.Replace(string(image.Digest), ":", "-", 1))
			if hasTag := err == nil; hasTag != test.fallback {
				t.Errorf("fallback tag found: %t, want %t", hasTag, test.fallback)
			}
		})
	}
}

func TestRequestsAreCountedUntilReset(t *testing.T) {
	reg := start(t, registrytest.Options{})
	repo := repository(reg)
	must(signingtest.PushImage(t.Context(), repo, "v1", signingtest.Image{}))
	reg.Reset()
	must(repo.Resolve(t.Context(), "v1"))
	want := []registrytest.Request{{Method: http.MethodHead, Path: "/v2/team/app/manifests/v1"}}
	if got := reg.Requests(); !slices.Equal(got, want) {
		t.Errorf("requests %v, want %v", got, want)
	}
}

func TestTLSIsTrustedByItsOwnCAOnly(t *testing.T) {
	reg := start(t, registrytest.Options{TLS: true})
	stranger := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var untrusted *tls.CertificateVerificationError
	if _, err := stranger.Get(reg.URL() + "/v2/"); !errors.As(err, &untrusted) {
		t.Errorf("a client without the CA gets %v, want an untrusted certificate", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(reg.CAPEM()) {
		t.Fatal("the CA is not PEM")
	}
	stranger.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots}
	response, err := stranger.Get(reg.URL() + "/v2/")
	if err != nil {
		t.Fatalf("a client with the CA: %v", err)
	}
	_ = response.Body.Close()
}

func TestAuthentication(t *testing.T) {
	account := registrytest.Options{Username: "robot", Password: "secret", IdentityToken: "identity"}
	basic, token := account, account
	basic.Auth, token.Auth = registrytest.AuthBasic, registrytest.AuthToken
	tests := map[string]struct {
		options    registrytest.Options
		credential auth.Credential
		oauth2     bool // the client prefers the OAuth2 endpoint
		denied     bool
	}{
		"basic authentication lets the account in":          {options: basic, credential: auth.Credential{Username: "robot", Password: "secret"}},
		"basic authentication refuses another password":     {options: basic, credential: auth.Credential{Username: "robot", Password: "guess"}, denied: true},
		"basic authentication refuses the anonymous":        {options: basic, denied: true},
		"token authentication lets the account in":          {options: token, credential: auth.Credential{Username: "robot", Password: "secret"}},
		"token authentication lets it in through OAuth2":    {options: token, credential: auth.Credential{Username: "robot", Password: "secret"}, oauth2: true},
		"token authentication lets the identity token in":   {options: token, credential: auth.Credential{RefreshToken: "identity"}},
		"token authentication refuses another token":        {options: token, credential: auth.Credential{RefreshToken: "guess"}, denied: true},
		"token authentication refuses another password":     {options: token, credential: auth.Credential{Username: "robot", Password: "guess"}, denied: true},
		"token authentication refuses the anonymous":        {options: token, denied: true},
		"token authentication refuses an unset credential":  {options: registrytest.Options{Auth: registrytest.AuthToken}, credential: auth.Credential{Username: "robot"}, denied: true},
		"token authentication refuses a token made up":      {options: token, credential: auth.Credential{AccessToken: "made up"}, denied: true},
		"basic authentication refuses where nothing is set": {options: registrytest.Options{Auth: registrytest.AuthBasic}, credential: auth.Credential{Username: "robot", Password: "x"}, denied: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			reg := start(t, test.options)
			repo := repository(reg)
			signingtest.SignIn(repo, reg.Client(), test.credential)
			repo.Client.(*auth.Client).ForceAttemptOAuth2 = test.oauth2
			_, err := signingtest.PushImage(t.Context(), repo, "v1", signingtest.Image{})
			if denied := err != nil; denied != test.denied {
				t.Fatalf("denied: %t (%v), want %t", denied, err, test.denied)
			}
			if !test.denied {
				must(repo.Resolve(t.Context(), "v1"))
			}
		})
	}
}

func TestTokensAreGoodForTheirScopeAndTime(t *testing.T) {
	tests := map[string]struct {
		scope    string
		lifetime time.Duration
		status   int
	}{
		"the scope asked for is granted":            {scope: "repository:team/app:pull", lifetime: time.Hour, status: http.StatusNotFound},
		"more actions than needed do no harm":       {scope: "repository:team/app:pull,push", lifetime: time.Hour, status: http.StatusNotFound},
		"another repository's scope is not enough":  {scope: "repository:team/other:pull", lifetime: time.Hour, status: http.StatusUnauthorized},
		"no scope is not enough for a repository":   {lifetime: time.Hour, status: http.StatusUnauthorized},
		"a token that expired is not enough either": {scope: "repository:team/app:pull", lifetime: time.Nanosecond, status: http.StatusUnauthorized},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			reg := start(t, registrytest.Options{
				Auth: registrytest.AuthToken, Username: "robot", Password: "secret", TokenLifetime: test.lifetime,
			})
			ask := must(http.NewRequest(http.MethodGet, reg.URL()+registrytest.TokenPath+"?scope="+test.scope, nil))
			ask.SetBasicAuth("robot", "secret")
			body := must(io.ReadAll(must(reg.Client().Do(ask)).Body))
			_, token, _ := strings.Cut(string(body), `"token":"`)
			token, _, _ = strings.Cut(token, `"`)

			pull := must(http.NewRequest(http.MethodGet, reg.URL()+"/v2/team/app/manifests/none", nil))
			pull.Header.Set("Authorization", "Bearer "+token)
			response := must(reg.Client().Do(pull))
			_ = response.Body.Close()
			if response.StatusCode != test.status {
				t.Errorf("status %d, want %d", response.StatusCode, test.status)
			}
		})
	}
}

func TestReferrersFollowTheManifest(t *testing.T) {
	repo := repository(start(t, registrytest.Options{}))
	image := must(signingtest.PushImage(t.Context(), repo, "v1", signingtest.Image{}))
	oneLayer := []signingtest.Layer{{MediaType: sbomType, Content: []byte("{}")}}
	tests := map[string]struct {
		referrer signingtest.Referrer
		want     string
	}{
		"the artifact type is the one the manifest declares": {
			referrer: signingtest.Referrer{ArtifactType: sbomType, Layers: oneLayer},
			want:     sbomType,
		},
		"without one it is the media type of the config": {
			referrer: signingtest.Referrer{ConfigMediaType: "application/vnd.example", Layers: oneLayer},
			want:     "application/vnd.example",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pushed := must(signingtest.PushArtifact(t.Context(), repo, image, test.referrer))
			found, _, err := referrers(t.Context(), repo, image, "")
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(found, func(d ocispec.Descriptor) bool { return d.Digest == pushed.Digest })
			if i < 0 || found[i].ArtifactType != test.want {
				t.Errorf("found %+v, want %s of type %s", found, pushed.Digest, test.want)
			}
		})
	}
}

func TestPageReferrers(t *testing.T) {
	tests := map[string]struct{ referrers, size, pages int }{
		"fewer than a page come in one":      {referrers: 2, size: 3, pages: 1},
		"just a page comes in one":           {referrers: 3, size: 3, pages: 1},
		"one more than a page comes in two":  {referrers: 4, size: 3, pages: 2},
		"pages of one come one by one":       {referrers: 3, size: 1, pages: 3},
		"no referrers come in one page also": {size: 3, pages: 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			reg := start(t, registrytest.Options{})
			repo := repository(reg)
			image := must(signingtest.PushImage(t.Context(), repo, "v1", signingtest.Image{}))
			want := pushSBOMs(t, repo, image, test.referrers)
			reg.SetFault(registrytest.PageReferrers(test.size))
			found, _, err := referrers(t.Context(), repo, image, "")
			if err != nil || !slices.Equal(digestsOf(found), want) {
				t.Errorf("found %v (%v), want %v", digestsOf(found), err, want)
			}
			reg.Reset()
			must(0, errors.Join(repo.Referrers(t.Context(), image, "", func([]ocispec.Descriptor) error { return nil })))
			if got := len(reg.Requests()); got != test.pages {
				t.Errorf("%d requests, want %d", got, test.pages)
			}
		})
	}
}

// faultCase is a fault, given the digest of the only layer, and what comes of
// it.
type faultCase struct {
	fault func(layer string) registrytest.Fault
	do    func(context.Context, *remote.Repository, ocispec.Descriptor) error
	want  string // part of the error; empty is success
}

func TestFaultsOfService(t *testing.T) {
	runFaults(t, map[string]faultCase{
		"a registry that fails says so": {
			fault: func(string) registrytest.Fault {
				return registrytest.FailTimes(-1, http.StatusTooManyRequests, http.Header{"Retry-After": {"1"}})
			},
			do:   resolve,
			want: "429",
		},
		"a registry that failed once works again": {
			fault: func(string) registrytest.Fault { return registrytest.FailTimes(1, http.StatusBadGateway, nil) },
			do:    resolveTwice,
		},
		"a fault for other paths does not show": {
			fault: func(string) registrytest.Fault {
				return registrytest.Only(registrytest.PathContains("/referrers/"), registrytest.Down)
			},
			do: resolve,
		},
		"a fault in a chain shows": {
			fault: func(string) registrytest.Fault {
				return registrytest.Chain(registrytest.PageReferrers(1), registrytest.Down)
			},
			do:   resolve,
			want: "EOF",
		},
		"a registry that is down closes the connection": {
			fault: func(string) registrytest.Fault { return registrytest.Down },
			do:    resolve,
			want:  "EOF",
		},
		"a slow registry outlasts a deadline": {
			fault: func(string) registrytest.Fault { return registrytest.Delay(time.Hour) },
			do:    resolveInTime,
			want:  "deadline exceeded",
		},
		"a short delay is only a delay": {
			fault: func(string) registrytest.Fault { return registrytest.Delay(time.Millisecond) },
			do:    resolve,
		},
	})
}

func TestFaultsOfContent(t *testing.T) {
	runFaults(t, map[string]faultCase{
		"a lie about a digest is in the header": {
			fault: func(string) registrytest.Fault { return registrytest.WrongDigest("/v2/team/app/manifests/v1") },
			do:    resolveAndFetch,
			want:  "not found",
		},
		"a swapped blob does not match its digest": {
			fault: func(layer string) registrytest.Fault {
				return registrytest.SwapBlob(layer, []byte("the liar!"))
			},
			do:   fetch,
			want: "digest",
		},
		"a truncated blob ends too soon": {
			fault: func(string) registrytest.Fault { return registrytest.Truncate },
			do:    fetch,
			want:  "EOF",
		},
	})
}

func runFaults(t *testing.T, tests map[string]faultCase) {
	layer := []byte("the layer")
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			reg := start(t, registrytest.Options{})
			repo := repository(reg)
			must(signingtest.PushImage(t.Context(), repo, "v1", signingtest.Image{Layers: [][]byte{layer}}))
			descriptor := content.NewDescriptorFromBytes(ocispec.MediaTypeImageLayer, layer)
			reg.SetFault(test.fault(string(descriptor.Digest)))
			err := test.do(t.Context(), repo, descriptor)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			reg.SetFault(nil)
			if err := resolve(t.Context(), repo, descriptor); err != nil {
				t.Errorf("without the fault: %v", err)
			}
		})
	}
}

func resolveTwice(ctx context.Context, repo *remote.Repository, layer ocispec.Descriptor) error {
	if err := resolve(ctx, repo, layer); err == nil {
		return errors.New("the first request did not fail")
	}
	return resolve(ctx, repo, layer)
}

func resolveInTime(ctx context.Context, repo *remote.Repository, layer ocispec.Descriptor) error {
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	return resolve(ctx, repo, layer)
}

func resolveAndFetch(ctx context.Context, repo *remote.Repository, _ ocispec.Descriptor) error {
	resolved, err := repo.Resolve(ctx, "v1")
	if err != nil {
		return err
	}
	_, err = content.FetchAll(ctx, repo, resolved)
	return err
}

func resolve(ctx context.Context, repo *remote.Repository, _ ocispec.Descriptor) error {
	_, err := repo.Resolve(ctx, "v1")
	return err
}

func fetch(ctx context.Context, repo *remote.Repository, layer ocispec.Descriptor) error {
	_, err := content.FetchAll(ctx, repo.Blobs(), layer)
	return err
}

func TestEndlessReferrersGoOn(t *testing.T) {
	reg := start(t, registrytest.Options{})
	repo := repository(reg)
	image := must(signingtest.PushImage(t.Context(), repo, "v1", signingtest.Image{}))
	pushSBOMs(t, repo, image, 1)
	reg.SetFault(registrytest.EndlessReferrers)
	enough := errors.New("enough")
	pages := 0
	err := repo.Referrers(t.Context(), image, "", func([]ocispec.Descriptor) error {
		if pages++; pages == 20 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Errorf("ended after %d pages with %v, want no end", pages, err)
	}
}

func TestCloseEndsRequestsThatHang(t *testing.T) {
	reg := registrytest.New(registrytest.Options{})
	reached, hang := make(chan struct{}), registrytest.Delay(time.Hour)
	reg.SetFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		close(reached)
		hang(w, r, next)
	})
	answered := make(chan error, 1)
	go func() {
		response, err := reg.Client().Post(reg.URL()+"/v2/", "text/plain", bytes.NewReader([]byte("body")))
		if err == nil {
			err = response.Body.Close()
		}
		answered <- err
	}()
	<-reached
	reg.Close()
	if err := <-answered; err == nil {
		t.Error("a request that hung was answered")
	}
}
