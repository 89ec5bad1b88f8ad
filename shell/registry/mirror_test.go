package registry

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest/distribution"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// mirrored is a registry with a mirror that has the same content.
type mirrored struct {
	*shelf
	mirror *registrytest.Registry
	image  ocispec.Descriptor
}

// withMirror makes a registry and a mirror with what it has, or with other content.
func withMirror(t *testing.T, content http.Handler, options registrytest.Options, change func(*Options)) *mirrored {
	t.Helper()
	shared := registrytest.InMemory()
	if content == nil {
		content = shared
	}
	options.Handler = content
	m := &mirrored{mirror: registrytest.New(options)}
	t.Cleanup(m.mirror.Close)
	m.shelf = stocked(t, registrytest.Options{Handler: shared}, func(o *Options) {
		o.InsecureHosts = append(o.InsecureHosts, m.mirror.Host())
		o.Mirrors = map[string][]string{o.InsecureHosts[0]: {m.mirror.Host()}}
		if change != nil {
			change(o)
		}
	})
	var err error
	if m.image, err = m.repository().Resolve(t.Context(), image.Reference{Tag: "v1"}); err != nil {
		t.Fatal(err)
	}
	m.shelf.registry.Reset()
	m.mirror.Reset()
	return m
}

func (m *mirrored) repository() *Repository {
	return m.client.Repository(image.Reference{Registry: m.shelf.registry.Host(), Repository: "acme/app"})
}

// readAll reads what a verification reads of a signed image.
func (m *mirrored) readAll(ctx context.Context) error {
	repository := m.repository()
	if _, err := repository.Resolve(ctx, image.Reference{Tag: "v1"}); err != nil {
		return err
	}
	if _, err := repository.Describe(ctx, m.image.Digest); err != nil {
		return err
	}
	found, _, err := repository.Referrers(ctx, m.image.Digest, "")
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return io.ErrUnexpectedEOF
	}
	for _, signature := range found {
		manifest, _, err := repository.Manifest(ctx, signature.Digest)
		if err != nil {
			return err
		}
		if _, err := repository.Blob(ctx, manifest.Layers[0], 1<<20); err != nil {
			return err
		}
	}
	return nil
}

// asked tells what a registry was asked for.
func asked(registry *registrytest.Registry) (tags, lists, content int) {
	for _, request := range registry.Requests() {
		switch {
		case strings.Contains(request.Path, "/referrers/") || strings.Contains(request.Path, "/manifests/sha256-"):
			lists++
		case strings.Contains(request.Path, "sha256:"):
			content++
		case strings.Contains(request.Path, "/manifests/"):
			tags++
		}
	}
	return tags, lists, content
}

func TestMirrorsAreAskedForWhatADigestVouchesFor(t *testing.T) {
	for name, handler := range map[string]http.Handler{"of the tests": nil, "distribution v3, which has nothing": distribution.New(t.Context())} {
		t.Run(name, func(t *testing.T) {
			m := withMirror(t, handler, registrytest.Options{}, nil)
			if err := m.readAll(t.Context()); err != nil {
				t.Fatal(err)
			}
			tags, lists, content := asked(m.mirror)
			if tags != 0 || lists != 0 || content < 3 {
				t.Errorf("the mirror was asked for %d tags, %d lists, and content %d times", tags, lists, content)
			}
			tags, lists, content = asked(m.shelf.registry)
			if tags != 1 || lists != 1 || (content > 0) == (handler == nil) {
				t.Errorf("the registry was asked for %d tags, %d lists, and content %d times", tags, lists, content)
			}
		})
	}
}

// TestAMirrorThatFailsHidesNothing, whatever it answers, and costs no more than its share of the time.
func TestAMirrorThatFailsHidesNothing(t *testing.T) {
	for what, fault := range map[string]registrytest.Fault{
		"has nothing":                     registrytest.Answer(http.StatusNotFound, nil, ""),
		"is broken":                       registrytest.Answer(http.StatusInternalServerError, nil, ""),
		"wants another account":           registrytest.Answer(http.StatusForbidden, nil, ""),
		"gives other content":             registrytest.SwapBody([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}`), http.Header{"Content-Type": {ocispec.MediaTypeImageManifest}}),
		"gives content without end":       func(w http.ResponseWriter, r *http.Request, _ http.Handler) { _, _ = io.CopyN(w, zeros{}, 8<<20) },
		"cuts content short":              registrytest.CutShort,
		"never answers":                   registrytest.Stall,
		"is down":                         registrytest.Down,
		"wants no requests for a century": registrytest.Answer(http.StatusTooManyRequests, http.Header{"Retry-After": {"3155760000"}}, ""),
		"wants none until a far date":     registrytest.Answer(http.StatusServiceUnavailable, http.Header{"Retry-After": {"Fri, 31 Dec 2999 23:59:59 GMT"}}, ""),
		"redirects in circles":            registrytest.RedirectTo("/v2/acme/app/manifests/sha256:0"),
	} {
		t.Run(what, func(t *testing.T) {
			m := withMirror(t, nil, registrytest.Options{}, nil)
			m.mirror.SetFault(fault)
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			defer cancel()
			began := time.Now()
			if err := m.readAll(ctx); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 6*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestAMirrorMovesNoTag, unless mirrors were declared to be as good as the registry.
func TestAMirrorMovesNoTag(t *testing.T) {
	for _, resolve := range []bool{false, true} {
		m := withMirror(t, registrytest.InMemory(), registrytest.Options{}, func(o *Options) { o.MirrorsResolve = resolve })
		repository, err := signingtest.Repository(m.mirror.Host(), "acme/app", m.mirror.Client(), true)
		if err != nil {
			t.Fatal(err)
		}
		moved, err := signingtest.PushImage(t.Context(), repository, "v1", signingtest.Image{Layers: [][]byte{[]byte("an older version")}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.repository().Resolve(t.Context(), image.Reference{Tag: "v1"})
		want := m.image.Digest
		if resolve {
			want = moved.Digest
		}
		if err != nil || got.Digest != want {
			t.Errorf("with MirrorsResolve %t: %s, %v; want %s", resolve, got.Digest, err, want)
		}
	}
}

// TestALieOfAMirrorAboutAListHidesNothing holds that a mirror leaves out no attestation, unless it was declared to be as good as the
// registry; and then an empty list of a cache that does not know of such lists does not count.
func TestALieOfAMirrorAboutAListHidesNothing(t *testing.T) {
	for _, resolve := range []bool{false, true} {
		m := withMirror(t, nil, registrytest.Options{}, func(o *Options) { o.MirrorsResolve = resolve })
		m.mirror.SetFault(registrytest.EditReferrers(func(index *ocispec.Index) { index.Manifests = nil }))
		if found, _, err := m.repository().Referrers(t.Context(), m.image.Digest, ""); err != nil || len(found) != 1 {
			t.Errorf("with MirrorsResolve %t: %v, %v", resolve, found, err)
		}
	}
}

// TestWithoutTheRegistryAMirrorIsEnough in a cluster that does not reach it.
func TestWithoutTheRegistryAMirrorIsEnough(t *testing.T) {
	for _, resolve := range []bool{false, true} {
		m := withMirror(t, nil, registrytest.Options{}, func(o *Options) { o.MirrorsResolve = resolve })
		m.shelf.registry.SetFault(registrytest.Stall)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := m.readAll(ctx); (err == nil) != resolve {
			t.Errorf("with MirrorsResolve %t: %v", resolve, err)
		}
	}
}

// TestAnEmptyListOfAMirrorCountsWithoutTheRegistry, soon: that nothing is signed is an answer, too.
func TestAnEmptyListOfAMirrorCountsWithoutTheRegistry(t *testing.T) {
	m := withMirror(t, nil, registrytest.Options{}, func(o *Options) { o.MirrorsResolve = true })
	m.mirror.SetFault(registrytest.EditReferrers(func(index *ocispec.Index) { index.Manifests = nil }))
	m.shelf.registry.SetFault(registrytest.Stall)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	for i, most := range []time.Duration{5 * time.Second, time.Second} { // then it is known that the registry cannot be reached
		began := time.Now()
		found, _, err := m.repository().Referrers(ctx, m.image.Digest, "")
		if took := time.Since(began); err != nil || len(found) > 0 || took > most {
			t.Errorf("read %d: %v, %v after %s", i, found, err, took)
		}
	}
}

// TestNoCredentialOfARegistryGoesToItsMirror, but one that is for the mirror's own host does.
func TestNoCredentialOfARegistryGoesToItsMirror(t *testing.T) {
	var mu sync.Mutex
	hosts := map[string]bool{}
	own := false
	options := registrytest.Options{Auth: registrytest.AuthBasic, Username: "user", Password: "of the mirror"}
	var mirror string
	m := withMirror(t, nil, options, func(o *Options) {
		mirror = o.Mirrors[o.InsecureHosts[0]][0]
		o.Credential = func(_ context.Context, host, _ string) (auth.Credential, error) {
			mu.Lock()
			defer mu.Unlock()
			hosts[host] = true
			if host == mirror {
				if own {
					return auth.Credential{Username: "user", Password: "of the mirror"}, nil
				}
				return auth.EmptyCredential, nil
			}
			return auth.Credential{Username: "user", Password: "of the registry"}, nil
		}
	})
	var sent []string
	m.mirror.SetFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		mu.Lock()
		sent = append(sent, r.Header.Get("Authorization"))
		mu.Unlock()
		next.ServeHTTP(w, r)
	})
	if err := m.readAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(sent, func(s string) bool { return s != "" }) || len(sent) == 0 || !hosts[mirror] {
		t.Errorf("the mirror got %q; asked for were credentials of %v", sent, hosts)
	}
	own, sent = true, nil
	m.shelf.registry.Reset()
	if err := m.readAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, content := asked(m.shelf.registry); content > 0 || !slices.ContainsFunc(sent, func(s string) bool { return s != "" }) {
		t.Errorf("its own credential is not used: the registry was asked for content %d times", content)
	}
}

func TestAMirrorIsToldWhatItMirrors(t *testing.T) {
	m := withMirror(t, nil, registrytest.Options{}, nil)
	var mu sync.Mutex
	var paths []string
	m.client.mirrors[m.shelf.registry.Host()] = []mirror{{m.mirror.Host(), "cache/hub"}}
	m.mirror.SetFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		mu.Lock()
		paths = append(paths, r.URL.RequestURI())
		mu.Unlock()
		next.ServeHTTP(w, r)
	})
	if _, err := m.repository().Describe(t.Context(), m.image.Digest); err != nil {
		t.Fatal(err)
	}
	want := "/v2/cache/hub/acme/app/manifests/" + m.image.Digest.String() + "?ns="
	if len(paths) == 0 || !strings.HasPrefix(paths[0], want) || !strings.HasSuffix(paths[0], "ns="+strings.Replace(m.shelf.registry.Host(), ":", "%3A", 1)) {
		t.Errorf("%q; want %s", paths, want)
	}
}

func TestParseMirrors(t *testing.T) {
	tests := map[string]struct {
		entries []string
		want    string
		err     string
	}{
		"none":                        {nil, "", ""},
		"one":                         {[]string{"docker.io=mirror.example"}, "docker.io: mirror.example", ""},
		"several, split at the comma": {[]string{"docker.io=mirror.example", "cache.example:5000/hub", "ghcr.io=mirror.example/ghcr"}, "docker.io: mirror.example cache.example:5000/hub; ghcr.io: mirror.example/ghcr", ""},
		"several in one":              {[]string{"docker.io=mirror.example,cache.example"}, "docker.io: mirror.example cache.example", ""},
		"another name of Docker Hub":  {[]string{"index.docker.io=mirror.example"}, "docker.io: mirror.example", ""},
		"without a registry":          {[]string{"mirror.example"}, "", "names no registry"},
		"without a mirror":            {[]string{"docker.io="}, "", "is no mirror"},
		"with a scheme":               {[]string{"docker.io=https://mirror.example"}, "", "is no mirror"},
		"with a tag":                  {[]string{"docker.io=mirror.example/hub:v1"}, "", "is no mirror"},
		"with capitals":               {[]string{"docker.io=mirror.example/Hub"}, "", "is no mirror"},
		"out of its folder":           {[]string{"docker.io=mirror.example/../other"}, "", "is no mirror"},
	}
	for what, test := range tests {
		got, err := ParseMirrors(test.entries)
		var parts []string
		for origin, names := range got {
			parts = append(parts, origin+": "+strings.Join(names, " "))
		}
		slices.Sort(parts)
		if (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) || err == nil && strings.Join(parts, "; ") != test.want {
			t.Errorf("%s: %v, %v; want %q, %q", what, got, err, test.want, test.err)
		}
	}
}
