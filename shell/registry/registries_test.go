package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// realRegistries are registries that others wrote, beside the one of the tests.
func realRegistries() map[string]func(*testing.T) http.Handler {
	return map[string]func(*testing.T) http.Handler{
		"of the tests":    func(*testing.T) http.Handler { return registrytest.InMemory() },
		"distribution v3": withoutReferrers,
		"olareg":          func(t *testing.T) http.Handler { return olaregWith(t, config.ConfigAPIReferrer{}) },
		"olareg in pages": func(t *testing.T) http.Handler { return olaregWith(t, config.ConfigAPIReferrer{Limit: 1500}) },
		"olareg without referrers API": func(t *testing.T) http.Handler {
			return olaregWith(t, config.ConfigAPIReferrer{Enabled: new(bool)})
		},
		"go-containerregistry": func(*testing.T) http.Handler {
			return ggcr.New(ggcr.WithReferrersSupport(true), ggcr.Logger(log.New(io.Discard, "", 0)))
		},
		"go-containerregistry without referrers API": func(*testing.T) http.Handler {
			return ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
		},
	}
}

func olaregWith(t *testing.T, referrers config.ConfigAPIReferrer) http.Handler {
	server := olareg.New(config.Config{
		Storage: config.ConfigStorage{StoreType: config.StoreMem, GC: config.ConfigGC{Frequency: -1}},
		API:     config.ConfigAPI{Referrer: referrers},
		Log:     slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() { _ = server.Close() })
	return server
}

func TestReadsWorkWithRealRegistries(t *testing.T) {
	const many = 12
	for name, handler := range realRegistries() {
		t.Run(name, func(t *testing.T) {
			s := stocked(t, registrytest.Options{Handler: handler(t)}, func(o *Options) { o.MaxReferrers = 100 })
			pushed := s.push(t, "real")
			want := map[digest.Digest]bool{}
			for i := range many {
				want[s.attach(t, "real", pushed, sbom, fmt.Sprint(i))] = true
			}
			s.attach(t, "real", pushed, "scan/example", "another")
			repository := s.client.Repository(image.Reference{Registry: s.registry.Host(), Repository: "acme/real"})
			for _, ref := range []image.Reference{{Tag: "v1"}, {Digest: pushed.Digest.String()}} {
				if got, err := repository.Resolve(t.Context(), ref); err != nil || got.Digest != pushed.Digest || got.Size != pushed.Size || got.MediaType != pushed.MediaType {
					t.Errorf("%+v: %+v, %v; want %+v", ref, got, err, pushed)
				}
			}
			found, truncated, err := repository.Referrers(t.Context(), pushed.Digest, sbom)
			for _, d := range found {
				manifest, fetched, err := repository.Manifest(t.Context(), d.Digest)
				if err != nil || !want[d.Digest] && manifest.ArtifactType == sbom || fetched.Size != d.Size || fetched.MediaType != d.MediaType {
					t.Errorf("%+v: %+v, %v", d, fetched, err)
				}
				if manifest.ArtifactType == sbom {
					delete(want, d.Digest)
				}
			}
			if err != nil || truncated || len(want) > 0 {
				t.Errorf("%d of %d are missing, truncated %t, %v", len(want), many, truncated, err)
			}
			if err := s.read(t.Context(), "real"); err != nil {
				t.Errorf("its signature: %v", err)
			}
			for what, failure := range repository.absentOf(t.Context()) {
				t.Errorf("%s: %v", what, failure)
			}
			for what, fault := range harmless() {
				s.registry.SetFault(fault)
				if err := s.read(t.Context(), "real"); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			s.registry.SetFault(nil)
			s.describe(t, name, pushed)
		})
	}
}

// harmless is what registries and proxies do to answers without changing what they say.
func harmless() map[string]registrytest.Fault {
	drop := func(field string) registrytest.Fault {
		return registrytest.EditHeader(func(h http.Header) { h.Del(field) })
	}
	head := func(status int) registrytest.Fault {
		return registrytest.Only(registrytest.Method(http.MethodHead), registrytest.FailTimes(-1, status, nil))
	}
	return map[string]registrytest.Fault{
		"all is packed":            registrytest.Pack,
		"no digest in the header":  drop("Docker-Content-Digest"),
		"no length":                drop("Content-Length"),
		"HEAD is not allowed":      head(http.StatusMethodNotAllowed),
		"HEAD finds nothing":       head(http.StatusNotFound),
		"HEAD is not implemented":  head(http.StatusNotImplemented),
		"types with a parameter":   registrytest.EditHeader(func(h http.Header) { h.Set("Content-Type", strings.ToUpper(h.Get("Content-Type"))+"; charset=utf-8") }),
		"manifests without a type": registrytest.Only(registrytest.PathContains("/manifests/v1"), drop("Content-Type")),
	}
}

// attach pushes an artifact that refers to an image.
func (s *shelf) attach(t *testing.T, name string, image ocispec.Descriptor, artifactType, content string) digest.Digest {
	t.Helper()
	repository, err := signingtest.Repository(s.registry.Host(), "acme/"+name, s.registry.Client(), true)
	if err != nil {
		t.Fatal(err)
	}
	pushed, err := signingtest.PushArtifact(t.Context(), repository, image, signingtest.Referrer{
		ArtifactType: artifactType, Layers: []signingtest.Layer{{MediaType: "application/json", Content: []byte(`"` + content + `"`)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return pushed.Digest
}

// absentOf asks for what is not there, and gives what is wrong with the answers.
func (r *Repository) absentOf(ctx context.Context) map[string]error {
	nothing := digest.FromString("nothing")
	wrong := map[string]error{}
	var failure *Error
	if _, err := r.Resolve(ctx, image.Reference{Tag: "absent"}); !errors.As(err, &failure) || failure.Code != reason.ImageNotFound {
		wrong["a tag that is not there"] = fmt.Errorf("got %v", err)
	}
	if _, err := r.Blob(ctx, ocispec.Descriptor{Digest: nothing, Size: 1}, 10); !errors.Is(err, ErrAbsent) {
		wrong["a blob that is not there"] = fmt.Errorf("got %v", err)
	}
	if _, _, err := r.Manifest(ctx, nothing); !errors.Is(err, ErrAbsent) {
		wrong["a manifest that is not there"] = fmt.Errorf("got %v", err)
	}
	if found, truncated, err := r.Referrers(ctx, nothing, sbom); len(found) > 0 || truncated || err != nil {
		wrong["referrers of nothing"] = fmt.Errorf("got %d, %t, %v", len(found), truncated, err)
	}
	return wrong
}

// describe prints a line of the table of what registries answer.
func (s *shelf) describe(t *testing.T, name string, image ocispec.Descriptor) {
	t.Helper()
	ask := func(method, path string) *http.Response {
		request, err := http.NewRequestWithContext(t.Context(), method, s.registry.URL()+"/v2/acme/real/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := s.registry.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response
	}
	head := ask(http.MethodHead, "manifests/v1")
	list := ask(http.MethodGet, "referrers/"+image.Digest.String()+"?artifactType="+strings.ReplaceAll(sbom, "/", "%2F"))
	none := ask(http.MethodGet, "referrers/"+digest.FromString("nothing").String())
	t.Logf("%s | HEAD %d, type %q, length %d, digest %t | referrers %d, type %q, filtered by %q, link %q | of nothing %d | blob that is not there %d",
		name, head.StatusCode, head.Header.Get("Content-Type"), head.ContentLength, head.Header.Get("Docker-Content-Digest") != "",
		list.StatusCode, list.Header.Get("Content-Type"), list.Header.Get("OCI-Filters-Applied"), list.Header.Get("Link"),
		none.StatusCode, ask(http.MethodGet, "blobs/"+digest.FromString("nothing").String()).StatusCode)
}
