package verify_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
	"github.com/nirmata/kyverno-notation-venafi/shell/egress"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
	shellregistry "github.com/nirmata/kyverno-notation-venafi/shell/registry"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest/distribution"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// platformRegistries are real registries, of three authors.
func platformRegistries(t *testing.T) map[string]http.Handler {
	server := olareg.New(config.Config{
		Storage: config.ConfigStorage{StoreType: config.StoreMem, GC: config.ConfigGC{Frequency: -1}}, Log: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() { _ = server.Close() })
	return map[string]http.Handler{"of the tests": registrytest.InMemory(), "distribution v3": distribution.New(t.Context()), "olareg": server}
}

// takesAny is a registry that takes an index of manifests that it does not have, as some do.
func takesAny() http.Handler {
	next, kept := registrytest.InMemory(), sync.Map{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, known := kept.Load(r.URL.Path)
		switch {
		case r.Method == http.MethodPut && r.Header.Get("Content-Type") == ocispec.MediaTypeImageIndex && !strings.Contains(r.URL.Path, "sha256-"):
			content, _ = io.ReadAll(r.Body)
			kept.Store(r.URL.Path, content)
			kept.Store(path.Join(path.Dir(r.URL.Path), digest.FromBytes(content.([]byte)).String()), content)
			w.Header().Set("Docker-Content-Digest", digest.FromBytes(content.([]byte)).String())
			w.WriteHeader(http.StatusCreated)
		case known:
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			w.Header().Set("Docker-Content-Digest", digest.FromBytes(content.([]byte)).String())
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content.([]byte)))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// indexed is an index in a registry.
type indexed struct {
	*bed
	name string
}

func (i indexed) manifest(os, architecture string) ocispec.Descriptor {
	i.Helper()
	repository := must(signingtest.Repository(i.scenario.Host, "acme/"+i.name, i.registry.Client(), true))
	platform := ocispec.Platform{OS: os, Architecture: architecture}
	pushed := must(signingtest.PushImage(i.Context(), repository, "", signingtest.Image{Layers: [][]byte{[]byte(i.name + os + architecture)}, Platform: platform}))
	pushed.Platform = &platform
	return pushed
}

func (i indexed) index(manifests ...ocispec.Descriptor) ocispec.Descriptor {
	i.Helper()
	repository := must(signingtest.Repository(i.scenario.Host, "acme/"+i.name, i.registry.Client(), true))
	return must(signingtest.PushIndexOf(i.Context(), repository, "v1", manifests...))
}

func (i indexed) sign(of ...ocispec.Descriptor) {
	i.Helper()
	for _, each := range of {
		each.Platform = nil // notation signs the descriptor that the registry gives
		if err := i.scenario.Sign(i.Context(), i.name, each, i.scenario.Signer(), signingtest.SignRequest{}); err != nil {
			i.Fatal(err)
		}
	}
}

// verify verifies the index by platforms.
func (i indexed) verify(ctx context.Context, chosen string, change func(*verification.Task)) (verification.Fact, *reason.Finding) {
	i.Helper()
	ref := must(image.Parse(i.scenario.Host + "/acme/" + i.name + ":v1"))
	acme := trust.StoreRef{Type: trust.StoreCA, Name: "acme"}
	task := verification.Task{
		Ref: ref, Policy: "tp", Revision: "1", Platforms: must(image.ReadPlatforms(strings.Fields(chosen))),
		Statement: trust.Statement{Name: "acme", Level: "strict", RegistryScopes: []string{"*"}, TrustStores: []string{acme.String()}, TrustedIdentities: []string{"*"}},
		Stores:    trust.Stores{acme: {Ref: acme, Certificates: []*x509.Certificate{i.scenario.Trusted.Certificate}}},
	}
	if change != nil {
		change(&task)
	}
	fact := i.gatherer.Gather(ctx, []verification.Task{task}, time.Now())[0]
	return fact, verification.Check(task, fact, time.Now())
}

func TestPlatformsInRealRegistries(t *testing.T) {
	absent := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("nowhere"), Size: 7, Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}}
	tests := map[string]struct {
		push   func(i indexed) (says string)
		chosen string
		code   reason.Code // "" where it is admitted
	}{
		"all signed": {func(i indexed) string {
			one, two := i.manifest("linux", "amd64"), i.manifest("linux", "arm64")
			i.sign(one, two, i.index(one, two))
			return ""
		}, "all", ""},
		"one is not signed": {func(i indexed) string {
			one, two := i.manifest("linux", "amd64"), i.manifest("linux", "arm64")
			i.sign(one, i.index(one, two))
			return "platform linux/arm64 (" + two.Digest.String() + ")"
		}, "all", reason.NoSignature},
		"one is not signed, and nobody runs it": {func(i indexed) string {
			one, two := i.manifest("linux", "amd64"), i.manifest("linux", "arm64")
			i.sign(one, i.index(one, two))
			return ""
		}, "linux/amd64", ""},
		"all are signed but the index, which anyone may have made": {func(i indexed) string {
			one, two := i.manifest("linux", "amd64"), i.manifest("linux", "arm64")
			i.index(one, two)
			i.sign(one, two)
			return "no signature"
		}, "all", reason.NoSignature},
		"with an attestation manifest of BuildKit": {func(i indexed) string {
			one, two := i.manifest("linux", "amd64"), i.manifest("unknown", "unknown")
			two.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": one.Digest.String()}
			i.sign(one, i.index(one, two))
			return ""
		}, "all", ""},
		"the platform is absent": {func(i indexed) string {
			one := i.manifest("linux", "amd64")
			i.sign(one, i.index(one))
			return "linux/riscv64"
		}, "linux/amd64 linux/riscv64", reason.PlatformMissing},
		"the platform is there twice": {func(i indexed) string {
			one, two := i.manifest("linux", "amd64"), i.manifest("linux", "amd64 ")
			two.Platform.Architecture = "amd64"
			i.sign(one, i.index(one, two))
			return two.Digest.String()
		}, "linux/amd64", reason.NoSignature},
		"another index is in it": {func(i indexed) string {
			one := i.manifest("linux", "amd64")
			inner := i.index(one)
			inner.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
			i.sign(one, inner, i.index(one, inner))
			return inner.Digest.String()
		}, "all", reason.IndexInvalid},
		"it is no index": {func(i indexed) string {
			repository := must(signingtest.Repository(i.scenario.Host, "acme/"+i.name, i.registry.Client(), true))
			i.sign(must(signingtest.PushImage(i.Context(), repository, "v1", signingtest.Image{})))
			return ""
		}, "all", ""},
	}
	for name, handler := range platformRegistries(t) {
		b := newBed(t, registrytest.Options{Handler: handler}, 50)
		n := 0
		for sentence, test := range tests {
			n++
			t.Run(name+"/"+sentence, func(t *testing.T) {
				i := indexed{&bed{T: t, registry: b.registry, scenario: b.scenario, gatherer: b.gatherer}, fmt.Sprint("platforms", n)}
				says := test.push(i)
				fact, finding := i.verify(t.Context(), test.chosen, nil)
				code := reason.Code("")
				if finding != nil {
					code = finding.Code
				}
				if code != test.code || finding != nil && !strings.Contains(finding.Reason, says) {
					t.Errorf("%+v; want %q, %q: %+v", finding, test.code, says, fact)
				}
			})
		}
	}
	t.Run("a manifest that is listed and nowhere is not signed", func(t *testing.T) {
		b := newBed(t, registrytest.Options{Handler: takesAny()}, 50)
		i := indexed{b, "absent"}
		one := i.manifest("linux", "amd64")
		i.sign(one, i.index(one, absent))
		if _, finding := i.verify(t.Context(), "all", nil); finding == nil || finding.Code != reason.NoSignature {
			t.Errorf("%+v", finding)
		}
	})
}

// TestAnIndexOfThousandsCostsNoMore has someone who may push and sign list thousands of manifests.
func TestAnIndexOfThousandsCostsNoMore(t *testing.T) {
	for entries, code := range map[int]reason.Code{33: reason.TooManyPlatforms, 300: reason.TooManyPlatforms, 3000: reason.IndexInvalid} {
		b := newBed(t, registrytest.Options{Handler: takesAny()}, 50)
		i := indexed{b, "thousands"}
		var manifests []ocispec.Descriptor
		for n := range entries {
			manifests = append(manifests, ocispec.Descriptor{
				MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(n)), Size: 100,
				Platform:    &ocispec.Platform{OS: "linux", Architecture: fmt.Sprint("cpu", n)},
				Annotations: map[string]string{"a": "1", "b": "2", "c": "3"},
			})
		}
		i.sign(i.index(manifests...))
		b.registry.Reset()
		began := time.Now()
		_, finding := i.verify(t.Context(), "all", nil)
		if finding == nil || finding.Code != code {
			t.Errorf("%d entries: %+v; want %s", entries, finding, code)
		}
		if took, n := time.Since(began), len(b.registry.Requests()); n > 6 || took > 5*time.Second {
			t.Errorf("%d entries cost %d requests and %s", entries, n, took)
		}
	}
}

// TestALyingRegistryAddsNoManifest has a registry serve another index for the digest, which lists less.
func TestALyingRegistryAddsNoManifest(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 50)
	i := indexed{b, "lies"}
	one, two := i.manifest("linux", "amd64"), i.manifest("linux", "arm64")
	index := i.index(one, two)
	i.sign(one, index)
	less := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"linux","architecture":"amd64"}}]}`,
		ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, one.Digest, one.Size)
	b.registry.SetFault(registrytest.Only(registrytest.All(registrytest.Method(http.MethodGet), registrytest.PathContains("/manifests/"+index.Digest.String())), registrytest.SwapBody([]byte(less), http.Header{})))
	if _, finding := i.verify(t.Context(), "all", nil); finding == nil || finding.Code.Class() != reason.Failed {
		t.Errorf("%+v; want a failure of the registry", finding)
	}
}

func TestSignaturesInAnotherRepository(t *testing.T) {
	for name, handler := range platformRegistries(t) {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, registrytest.Options{Handler: handler}, 50)
			app, signatures := indexed{b, "app"}, indexed{b, "signatures"}
			one := app.manifest("linux", "amd64")
			index := app.index(one)
			signatures.sign(one, index)
			elsewhere := func(task *verification.Task) {
				task.Statement.SignatureRepository = b.scenario.Host + "/acme/signatures"
			}
			if _, finding := app.verify(t.Context(), "all", elsewhere); finding != nil {
				t.Errorf("%+v", finding)
			}
			if _, finding := app.verify(t.Context(), "all", nil); finding == nil || finding.Code != reason.NoSignature {
				t.Errorf("without it: %+v", finding)
			}
			other := indexed{b, "other"}
			two := other.manifest("linux", "amd64")
			other.sign(two, other.index(two))
			if _, finding := other.verify(t.Context(), "all", elsewhere); finding == nil || finding.Code != reason.NoSignature || !strings.Contains(finding.Reason, "/acme/signatures") {
				t.Errorf("signatures beside an image count no more: %+v", finding)
			}
		})
	}
}

// TestAChoiceIsVerifiedAnewForAnother holds that what was kept for one choice of platforms admits under no other.
func TestAChoiceIsVerifiedAnewForAnother(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 50)
	client := must(shellregistry.New(shellregistry.Options{AllowLoopback: true, InsecureHosts: []string{b.registry.Host()}, MaxReferrers: 50}))
	b.gatherer = must(verify.New(client, plugin.NewManager(plugin.Options{Dir: t.TempDir(), Timeout: time.Second}), cache.New(cache.Options{Size: 100}), verify.Options{
		Egress: egress.Rule{AllowLoopback: true}, MaxParallel: 16, MaxVerifications: 16, MaxQueued: 100,
		Limits: verification.Limits{MaxReferrers: 50, MaxSignatureAttempts: 30, MaxPlatforms: 32, Keep: time.Hour, KeepTags: time.Hour},
	}))
	t.Cleanup(b.gatherer.Close)
	i := indexed{b, "kept"}
	one, two := i.manifest("linux", "amd64"), i.manifest("linux", "arm64")
	i.sign(one, i.index(one, two))
	for range 2 {
		for chosen, code := range map[string]reason.Code{"": "", "linux/amd64": "", "all": reason.NoSignature, "linux/arm64": reason.NoSignature} {
			_, finding := i.verify(t.Context(), chosen, nil)
			if finding == nil && code != "" || finding != nil && finding.Code != code {
				t.Errorf("%q: %+v; want %q", chosen, finding, code)
			}
		}
	}
}
