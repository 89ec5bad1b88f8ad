package verify_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	notation "github.com/notaryproject/notation-go/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/samber/lo"
	"go.uber.org/goleak"
	"oras.land/oras-go/v2/content"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/condition"
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
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

func TestMain(m *testing.M) {
	// The one goroutine that distribution never ends.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"))
}

const (
	sbomType   = "sbom/cyclone-dx"
	good, bad  = `{"licence": "MIT"}`, `{"licence": "GPL-3.0-only"}`
	maxPayload = 32 << 20
)

// bed is a registry, and a gatherer that trusts Acme.
type bed struct {
	*testing.T
	registry *registrytest.Registry
	scenario *scenariotest.Scenario
	foreign  *signingtest.Signer
	gatherer *verify.Gatherer
}

func newBed(t *testing.T, options registrytest.Options, maxReferrers int) *bed {
	t.Helper()
	b := &bed{T: t, registry: registrytest.New(options)}
	t.Cleanup(b.registry.Close)
	b.scenario = must(scenariotest.New(b.registry.Host(), b.registry.Client(), true))
	b.foreign = must(b.scenario.Foreign.Issue(signingtest.LeafOptions{CommonName: "Mallory"}))
	b.gatherer = b.newGatherer(maxReferrers)
	return b
}

func (b *bed) newGatherer(maxReferrers int) *verify.Gatherer {
	b.Helper()
	return b.newGathererWith(maxReferrers, func() map[string]string { return nil })
}

func (b *bed) newGathererWith(maxReferrers int, config plugin.Config) *verify.Gatherer {
	b.Helper()
	client := must(shellregistry.New(shellregistry.Options{AllowLoopback: true, InsecureHosts: []string{b.registry.Host()}, MaxReferrers: maxReferrers}))
	plugins := plugin.NewManager(plugin.Options{Dir: b.TempDir(), Config: config, Timeout: time.Second})
	gatherer := must(verify.New(client, plugins, cache.New(cache.Options{}), verify.Options{Egress: egress.Rule{AllowLoopback: true}, Limits: verification.Limits{MaxReferrers: maxReferrers, MaxSignatureAttempts: 30, MaxPlatforms: 32}, MaxParallel: 16, MaxVerifications: 16, MaxQueued: 1000}))
	b.Cleanup(gatherer.Close)
	return gatherer
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func registries(t *testing.T) map[string]registrytest.Options {
	return map[string]registrytest.Options{
		"referrers API": {},
		"fallback tags": {Handler: distribution.New(t.Context())},
	}
}

// target is an image under examination, and what is attached to it.
type target struct {
	*bed
	name     string
	image    ocispec.Descriptor
	attached []ocispec.Descriptor // attestations, in the order of their push
}

func (b *bed) target(name string) *target {
	b.Helper()
	return &target{bed: b, name: name, image: must(b.scenario.PushSigned(b.Context(), name, b.scenario.Signer(), &signingtest.SignRequest{}))}
}

// attestation is what to attach. The zero value is an empty document that the trusted signer signs now.
type attestation struct {
	artifactType string // zero: sbomType
	configType   string // instead of artifactType, in the config
	payload      string
	mediaType    string // zero: application/json
	layers       []signingtest.Layer
	noLayers     bool
	annotations  map[string]string
	signer       *signingtest.Signer // zero: the trusted one
	unsigned     bool
	plugin       bool // the signature demands a plugin, and none is installed
	signedAt     time.Time
	subject      *ocispec.Descriptor // zero: the image
}

func (x *target) attach(a attestation) ocispec.Descriptor {
	x.Helper()
	repository := must(signingtest.Repository(x.registry.Host(), "acme/"+x.name, x.registry.Client(), true))
	referrer := signingtest.Referrer{ArtifactType: a.artifactType, Layers: a.layers, Annotations: a.annotations, ConfigMediaType: a.configType}
	if referrer.ArtifactType == "" && a.configType == "" {
		referrer.ArtifactType = sbomType
	}
	if referrer.Layers == nil && !a.noLayers {
		if a.mediaType == "" {
			a.mediaType = "application/json"
		}
		referrer.Layers = []signingtest.Layer{{MediaType: a.mediaType, Content: []byte(a.payload)}}
	}
	subject := x.image
	if a.subject != nil {
		subject = *a.subject
	}
	pushed := must(signingtest.PushArtifact(x.Context(), repository, subject, referrer))
	x.attached = append(x.attached, pushed)
	if a.unsigned {
		return pushed
	}
	if a.signer == nil {
		a.signer = x.scenario.Signer()
	}
	request := signingtest.SignRequest{SigningTime: a.signedAt}
	if a.plugin {
		request.Plugin = signingtest.Venafi()
	}
	if err := x.scenario.Sign(x.Context(), x.name, pushed, a.signer, request); err != nil {
		x.Fatal(err)
	}
	return pushed
}

// relist changes the list of the image's referrers on its way to the caller, by the API and by the fallback tag.
func (x *target) relist(edit func([]ocispec.Descriptor) []ocispec.Descriptor) registrytest.Fault {
	tag := "/manifests/" + strings.Replace(x.image.Digest.String(), ":", "-", 1)
	api := "/referrers/" + x.image.Digest.String()
	lists := func(r *http.Request) bool {
		return strings.HasSuffix(r.URL.Path, tag) || strings.HasSuffix(r.URL.Path, api)
	}
	return registrytest.Only(lists, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		recorded := httptest.NewRecorder()
		next.ServeHTTP(recorded, r)
		var index ocispec.Index
		body := recorded.Body.Bytes()
		if recorded.Code == http.StatusOK && json.Unmarshal(body, &index) == nil {
			index.Manifests = edit(index.Manifests)
			body = must(json.Marshal(index))
			recorded.Header().Set("Docker-Content-Digest", digest.FromBytes(body).String())
			recorded.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		for key, values := range recorded.Header() {
			w.Header()[key] = values
		}
		w.WriteHeader(recorded.Code)
		_, _ = w.Write(body)
	})
}

// editAttestation changes how the first attestation is listed.
func editAttestation(edit func(*ocispec.Descriptor)) func(*target) registrytest.Fault {
	return func(x *target) registrytest.Fault {
		return x.relist(func(list []ocispec.Descriptor) []ocispec.Descriptor {
			for i := range list {
				if list[i].Digest == x.attached[0].Digest {
					edit(&list[i])
				}
			}
			return list
		})
	}
}

// secondPage lists one referrer on each page, and does something to all but the first.
func secondPage(fault registrytest.Fault) func(*target) registrytest.Fault {
	return func(*target) registrytest.Fault {
		return registrytest.Chain(registrytest.Only(registrytest.LaterPage, fault), registrytest.PageReferrers(1))
	}
}

// missing answers that there is nothing at a path.
func missing(path string) registrytest.Fault {
	return registrytest.Only(registrytest.PathContains(path), registrytest.FailTimes(-1, http.StatusNotFound, nil))
}

func goneManifest(i int) func(*target) registrytest.Fault {
	return func(x *target) registrytest.Fault { return missing("/manifests/" + x.attached[i].Digest.String()) }
}

// unlistedOnce answers 404 the first time that the signatures of an attestation are asked for.
func unlistedOnce(i int) func(*target) registrytest.Fault {
	return func(x *target) registrytest.Fault {
		return registrytest.Only(registrytest.PathContains("/referrers/"+x.attached[i].Digest.String()), registrytest.FailTimes(1, http.StatusNotFound, nil))
	}
}

// absentOnce answers 404 the first time that the signature of an attestation is asked for: its manifest, or its envelope.
func absentOnce(i int, kind string) func(*target) registrytest.Fault {
	return func(x *target) registrytest.Fault {
		repository := must(signingtest.Repository(x.registry.Host(), "acme/"+x.name, x.registry.Client(), true))
		var named digest.Digest
		err := repository.Referrers(x.Context(), x.attached[i], notation.ArtifactTypeNotation, func(page []ocispec.Descriptor) error {
			var manifest ocispec.Manifest
			if err := json.Unmarshal(must(content.FetchAll(x.Context(), repository, page[0])), &manifest); err != nil {
				return err
			}
			named = map[string]digest.Digest{"manifests": page[0].Digest, "blobs": manifest.Layers[0].Digest}[kind]
			return nil
		})
		if err != nil {
			x.Fatal(err)
		}
		return registrytest.Only(registrytest.PathContains("/"+kind+"/"+named.String()), registrytest.FailTimes(1, http.StatusNotFound, nil))
	}
}

// givenAs gives an attestation's manifest a media type in the answer's header, as a push of the same content does in some
// registries.
func givenAs(i int, mediaType string) func(*target) registrytest.Fault {
	return func(x *target) registrytest.Fault {
		return registrytest.Only(registrytest.PathContains("/manifests/"+x.attached[i].Digest.String()), registrytest.EditHeader(func(h http.Header) { h.Set("Content-Type", mediaType) }))
	}
}

// alsoSigned has a stranger sign every attestation, with signatures of both places in the list.
func alsoSigned(x *target) {
	for i := range 6 {
		if err := x.scenario.Sign(x.Context(), x.name, x.attached[1], x.foreign, signingtest.SignRequest{SigningTime: yesterday.Add(time.Duration(i) * time.Second)}); err != nil {
			x.Fatal(err)
		}
	}
}

func goneBlob(payload string) func(*target) registrytest.Fault {
	return func(*target) registrytest.Fault { return missing("/blobs/" + digest.FromString(payload).String()) }
}

// besideIndex lists an index as an attestation, which anyone may push.
func besideIndex(x *target) registrytest.Fault {
	repository := must(signingtest.Repository(x.registry.Host(), "acme/"+x.name, x.registry.Client(), true))
	index := must(signingtest.PushIndex(x.Context(), repository, "index"))
	index.ArtifactType = sbomType
	return x.relist(func(list []ocispec.Descriptor) []ocispec.Descriptor { return append(list, index) })
}

// demanding asks that the licence is not the GPL; a key of "" asks for the attestation alone.
func demanding(by verification.Select, key string) []verification.AttestationType {
	demand := verification.AttestationType{Name: sbomType, Select: by}
	if key != "" {
		demand.Conditions.All = []condition.Condition{{Key: must(json.Marshal(key)), Operator: "AllNotIn", Value: []byte(`["GPL*"]`), Message: "no GPL"}}
	}
	return []verification.AttestationType{demand}
}

const licence = "{{ licence }}"

// plan plans one image under a statement of a level.
func (x *target) plan(level string, demands []verification.AttestationType) core.Plan {
	x.Helper()
	if level == "" {
		level = "strict"
	}
	store := trust.StoreRef{Type: "ca", Name: "acme"}
	snapshot := trust.Snapshot{
		Policies: map[string]trust.Policy{"demo": {Name: "demo", Statements: []trust.Statement{{
			Name: "everything", RegistryScopes: []string{"*"}, Level: level, TrustStores: []string{store.String()}, TrustedIdentities: []string{"*"},
		}}}},
		Stores: map[trust.StoreRef]trust.Store{store: {Ref: store, Certificates: []*x509.Certificate{x.scenario.Trusted.Certificate}}},
	}
	request := core.Request{
		Images:       []core.Image{{Kind: "container", Name: "c0", Written: x.scenario.Reference(x.name), Ref: must(image.Parse(x.scenario.Reference(x.name)))}},
		Attestations: []core.AttestationRule{{ImageReference: "*", Types: demands}},
	}
	return must(core.NewPlan(request, snapshot, "demo"))
}

// gatherer is the part of a [verify.Gatherer] that tests ask.
type gatherer interface {
	Gather(ctx context.Context, tasks []verification.Task, now time.Time) []verification.Fact
}

func (x *target) decide(from gatherer, level string, demands []verification.AttestationType) core.Result {
	x.Helper()
	plan := x.plan(level, demands)
	return core.Decide(plan, from.Gather(x.Context(), plan.Tasks, time.Now()), time.Now()).Results[0]
}

// fetched counts the requests for a payload.
func (b *bed) fetched(payload string) int {
	path := "/blobs/" + digest.FromString(payload).String()
	return len(slices.DeleteFunc(b.registry.Requests(), func(r registrytest.Request) bool {
		return r.Method != http.MethodGet || !strings.HasSuffix(r.Path, path)
	}))
}

func zipped(text string) string {
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	_, _ = writer.Write([]byte(text))
	_ = writer.Close()
	return out.String()
}

func zstandard(text string) string {
	return string(must(zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))).EncodeAll([]byte(text), nil))
}

// padded is a good document of a size in bytes.
func padded(size int) string {
	return `{"licence": "MIT"}` + strings.Repeat(" ", size-len(`{"licence": "MIT"}`))
}

type matrixCase struct {
	attached []attestation
	prepare  func(*target)                    // beside attached
	fault    func(*target) registrytest.Fault // from then on
	level    string
	demands  []verification.AttestationType // zero: all, the licence is not the GPL
	want     reason.Code
	byTag    reason.Code // by the fallback tag; zero: want
	says     string
	fetched  map[string]int // payload -> requests for it
	large    bool           // distribution takes half a minute to accept it in memory, and the listing makes no difference
}

// Signing times, in whole seconds as envelopes keep them.
var (
	today     = time.Now().Truncate(time.Second)
	yesterday = today.Add(-24 * time.Hour)
)

func matrix() map[string]matrixCase {
	return map[string]matrixCase{
		"met":                                                   {attached: []attestation{{payload: good}}, want: reason.Verified, fetched: map[string]int{good: 1}},
		"unmet":                                                 {attached: []attestation{{payload: bad}}, want: reason.ConditionUnmet, says: `the condition on {{ licence }} is not met: found "GPL-3.0-only", wanted AllNotIn ["GPL*"]: no GPL`},
		"missing":                                               {want: reason.AttestationMissing, says: `no attestation of type "sbom/cyclone-dx" is attached to`},
		"of another type":                                       {attached: []attestation{{payload: good, artifactType: "sbom/spdx"}}, want: reason.AttestationMissing},
		"unsigned":                                              {attached: []attestation{{payload: good, unsigned: true}}, want: reason.AttestationUntrusted, says: "no signature is associated with", fetched: map[string]int{good: 0}},
		"signed by someone else":                                {attached: []attestation{{payload: good, signer: mallory}}, want: reason.AttestationUntrusted, fetched: map[string]int{good: 1}}, // beside its signature
		"signed by someone else, and large":                     {attached: []attestation{{payload: padded(1<<20 + 1), signer: mallory}}, want: reason.AttestationUntrusted, fetched: map[string]int{padded(1<<20 + 1): 0}},
		"an unsigned bad one beside":                            {attached: []attestation{{payload: good}, {payload: bad, unsigned: true}}, want: reason.Verified, fetched: map[string]int{good: 1, bad: 0}},
		"a foreign bad one beside":                              {attached: []attestation{{payload: good}, {payload: bad, signer: mallory}}, want: reason.Verified},
		"no conditions":                                         {attached: []attestation{{payload: bad}}, demands: demanding(verification.SelectAll, ""), want: reason.Verified, fetched: map[string]int{bad: 0}},
		"no conditions, unsigned":                               {attached: []attestation{{payload: bad, unsigned: true}}, demands: demanding(verification.SelectAll, ""), want: reason.AttestationUntrusted},
		"all: one of two unmet":                                 {attached: []attestation{{payload: good, signedAt: today}, {payload: bad, signedAt: yesterday}}, want: reason.ConditionUnmet},
		"any: one of two unmet":                                 {attached: []attestation{{payload: good, signedAt: yesterday}, {payload: bad}}, demands: demanding(verification.SelectAny, licence), want: reason.Verified},
		"any: both unmet":                                       {attached: []attestation{{payload: bad}, {payload: bad + " "}}, demands: demanding(verification.SelectAny, licence), want: reason.ConditionUnmet},
		"latest: the rescan is good":                            {attached: []attestation{{payload: bad, signedAt: yesterday}, {payload: good, signedAt: today}}, demands: demanding(verification.SelectLatest, licence), want: reason.Verified, fetched: map[string]int{good: 1, bad: 0}},
		"latest: the rescan is bad":                             {attached: []attestation{{payload: good, signedAt: yesterday}, {payload: bad, signedAt: today}}, demands: demanding(verification.SelectLatest, licence), want: reason.ConditionUnmet, fetched: map[string]int{good: 0, bad: 1}},
		"latest: a newer one of Mallory":                        {attached: []attestation{{payload: bad, signedAt: yesterday}, {payload: good, signer: mallory}}, demands: demanding(verification.SelectLatest, licence), want: reason.ConditionUnmet},
		"latest: two of one second":                             {attached: []attestation{{payload: good, signedAt: today}, {payload: bad, signedAt: today}}, demands: demanding(verification.SelectLatest, licence), want: reason.ConditionUnmet, fetched: map[string]int{good: 1, bad: 1}},
		"latest: two good ones of a second":                     {attached: []attestation{{payload: good, signedAt: today}, {payload: good + " ", signedAt: today}}, demands: demanding(verification.SelectLatest, licence), want: reason.Verified},
		"all: the other cannot be fetched":                      {attached: []attestation{{payload: good}, {payload: bad}}, fault: failing(1), want: reason.RegistryUnavailable},
		"any: the other cannot be fetched":                      {attached: []attestation{{payload: good}, {payload: bad}}, fault: failing(1), demands: demanding(verification.SelectAny, licence), want: reason.Verified},
		"any: the good one is not fetched":                      {attached: []attestation{{payload: good}, {payload: bad}}, fault: failing(0), demands: demanding(verification.SelectAny, licence), want: reason.RegistryUnavailable},
		"latest: the other is not fetched":                      {attached: []attestation{{payload: good}, {payload: bad}}, fault: failing(1), demands: demanding(verification.SelectLatest, licence), want: reason.RegistryUnavailable},
		"the payload cannot be fetched":                         {attached: []attestation{{payload: good}}, fault: failingBlob(good), want: reason.RegistryUnavailable},
		"the payload was swapped":                               {attached: []attestation{{payload: bad}}, fault: swapped(bad, good), want: reason.RegistryInvalid},
		"replayed from another image":                           {prepare: replayed, fault: replay, want: reason.AttestationUntrusted, says: "was made for another image"},
		"listed as of another type":                             {attached: []attestation{{payload: good, artifactType: "sbom/spdx"}}, fault: editAttestation(func(d *ocispec.Descriptor) { d.ArtifactType = sbomType }), want: reason.AttestationUntrusted, says: `is of type "sbom/spdx"`},
		"beside one with a broken signature":                    {attached: []attestation{{payload: good}}, prepare: brokenSignature, want: reason.Verified},
		"latest: a newer bad one, buried":                       {attached: []attestation{{payload: good, signedAt: yesterday}}, prepare: buried, demands: demanding(verification.SelectLatest, licence), want: reason.TooManySignatures, says: "the first 30 of its signatures"},
		"all: a bad one, buried":                                {attached: []attestation{{payload: good, signedAt: yesterday}}, prepare: buried, want: reason.TooManySignatures, says: "the first 30 of its signatures"},
		"any: a bad one, buried":                                {attached: []attestation{{payload: good, signedAt: yesterday}}, prepare: buried, demands: demanding(verification.SelectAny, licence), want: reason.Verified},
		"listed with another size":                              {attached: []attestation{{payload: good}}, fault: editAttestation(func(d *ocispec.Descriptor) { d.Size++ }), want: reason.Verified},
		"listed with another media type":                        {attached: []attestation{{payload: good}}, fault: editAttestation(func(d *ocispec.Descriptor) { d.MediaType = ocispec.MediaTypeImageIndex }), want: reason.Verified},
		"listed as over 4 MiB":                                  {attached: []attestation{{payload: good}}, fault: editAttestation(func(d *ocispec.Descriptor) { d.Size = 4<<20 + 1 }), want: reason.Verified},
		"listed with a negative size":                           {attached: []attestation{{payload: good}}, fault: editAttestation(func(d *ocispec.Descriptor) { d.Size = -1 }), want: reason.Verified},
		"listed with a digest of nothing":                       {attached: []attestation{{payload: good}}, fault: editAttestation(func(d *ocispec.Descriptor) { d.Digest = digest.FromString("nothing") }), want: reason.AttestationUntrusted},
		"listed with nonsense for a digest":                     {attached: []attestation{{payload: good}}, fault: editAttestation(func(d *ocispec.Descriptor) { d.Digest = "../../../x" }), want: reason.RegistryInvalid, byTag: reason.SignatureInvalid},
		"a bad one of another size":                             {attached: []attestation{{payload: bad}, {payload: good}}, fault: editAttestation(func(d *ocispec.Descriptor) { d.Size++ }), want: reason.ConditionUnmet},
		"a bad one as an index":                                 {attached: []attestation{{payload: bad}, {payload: good}}, fault: editAttestation(func(d *ocispec.Descriptor) { d.MediaType = ocispec.MediaTypeImageIndex }), want: reason.ConditionUnmet},
		"a bad one listed without its type":                     {attached: []attestation{{payload: bad}, {payload: good}}, fault: editAttestation(func(d *ocispec.Descriptor) { d.ArtifactType = "" }), want: reason.ConditionUnmet},
		"all: a bad one is gone":                                {attached: []attestation{{payload: good}, {payload: bad}}, fault: goneManifest(1), want: reason.AttestationMissing, says: "not in the registry"},
		"latest: an older one is gone":                          {attached: []attestation{{payload: good}, {payload: bad, signedAt: yesterday}}, fault: goneManifest(1), demands: demanding(verification.SelectLatest, licence), want: reason.AttestationMissing},
		"any: a bad one is gone":                                {attached: []attestation{{payload: good}, {payload: bad}}, fault: goneManifest(1), demands: demanding(verification.SelectAny, licence), want: reason.Verified},
		"without conditions: one is gone":                       {attached: []attestation{{payload: good}}, fault: goneManifest(0), demands: demanding(verification.SelectAny, ""), want: reason.AttestationMissing},
		"all: an unsigned one is gone":                          {attached: []attestation{{payload: good}, {payload: bad, unsigned: true}}, fault: goneManifest(1), want: reason.Verified},
		"all: a foreign one is gone":                            {attached: []attestation{{payload: good}, {payload: bad, signer: mallory}}, fault: goneManifest(1), want: reason.Verified},
		"all: of a bad one the signatures are not found once":   {attached: []attestation{{payload: good}, {payload: bad}}, fault: unlistedOnce(1), want: reason.ConditionUnmet},
		"all: of a bad one the signature is not found once":     {attached: []attestation{{payload: good}, {payload: bad}}, fault: absentOnce(1, "manifests"), want: reason.ConditionUnmet},
		"all: of a bad one the envelope is not found once":      {attached: []attestation{{payload: good}, {payload: bad}}, fault: absentOnce(1, "blobs"), want: reason.ConditionUnmet},
		"all: a bad one is given as a manifest of Docker":       {attached: []attestation{{payload: good}, {payload: bad}}, fault: givenAs(1, "application/vnd.docker.distribution.manifest.v2+json"), want: reason.ConditionUnmet},
		"all: a bad one is given as an index":                   {attached: []attestation{{payload: good}, {payload: bad}}, fault: givenAs(1, ocispec.MediaTypeImageIndex), want: reason.ConditionUnmet},
		"all: a bad one demands a plugin that is not there":     {attached: []attestation{{payload: good}, {payload: bad, plugin: true}}, want: reason.PluginMissing},
		"latest: an older one demands a plugin":                 {attached: []attestation{{payload: good}, {payload: bad, plugin: true, signedAt: yesterday}}, demands: demanding(verification.SelectLatest, licence), want: reason.PluginMissing},
		"any: a bad one demands a plugin":                       {attached: []attestation{{payload: good}, {payload: bad, plugin: true}}, demands: demanding(verification.SelectAny, licence), want: reason.Verified},
		"all: a bad one of Mallory demands a plugin":            {attached: []attestation{{payload: good}, {payload: bad, plugin: true, signer: mallory}}, want: reason.Verified},
		"all: a bad one demands a plugin, and is Mallory's too": {attached: []attestation{{payload: good}, {payload: bad, plugin: true}}, prepare: alsoSigned, want: reason.PluginMissing},
		"the payload is gone":                                   {attached: []attestation{{payload: good}}, fault: goneBlob(good), want: reason.AttestationInvalid, says: "not in the registry"},
		"any: a payload is gone":                                {attached: []attestation{{payload: good}, {payload: bad}}, fault: goneBlob(bad), demands: demanding(verification.SelectAny, licence), want: reason.Verified},
		"beside an index":                                       {attached: []attestation{{payload: good}}, fault: besideIndex, want: reason.Verified},
		"listed twice":                                          {attached: []attestation{{payload: good}}, fault: doubled, want: reason.Verified, fetched: map[string]int{good: 1}},
		"not listed by a page of the list":                      {attached: []attestation{{payload: good}, {payload: bad}}, fault: func(*target) registrytest.Fault { return registrytest.PageReferrers(1) }, want: reason.ConditionUnmet},
		"a page of the list is not there":                       {attached: []attestation{{payload: good}, {payload: bad}}, fault: secondPage(registrytest.FailTimes(-1, http.StatusNotFound, nil)), want: reason.RegistryInvalid, byTag: reason.ConditionUnmet},
		"a page of the list is HTML":                            {attached: []attestation{{payload: good}, {payload: bad}}, fault: secondPage(registrytest.Answer(200, http.Header{"Content-Type": {"text/html"}}, "<html>")), want: reason.RegistryInvalid, byTag: reason.ConditionUnmet},
		"a page of the list is of no type":                      {attached: []attestation{{payload: good}, {payload: bad}}, fault: secondPage(registrytest.Answer(200, http.Header{"Content-Type": {"application/json"}}, `{"manifests":[]}`)), want: reason.RegistryInvalid, byTag: reason.ConditionUnmet},
		"a page of the list is cut short":                       {attached: []attestation{{payload: good}, {payload: bad}}, fault: secondPage(registrytest.CutShort), want: reason.RegistryInvalid, byTag: reason.ConditionUnmet},
		"a page of the list ends early":                         {attached: []attestation{{payload: good}, {payload: bad}}, fault: secondPage(registrytest.EndEarly), want: reason.RegistryUnavailable, byTag: reason.ConditionUnmet},
		"subject of another size and type":                      {prepare: otherSubject, fault: replay, want: reason.Verified},
		"type only in the config":                               {attached: []attestation{{payload: good, configType: sbomType}}, want: reason.Verified},
		"a huge annotation":                                     {attached: []attestation{{payload: good, annotations: map[string]string{"x": strings.Repeat("x", 1<<20)}}}, want: reason.Verified},
		"of exactly 32 MiB":                                     {attached: []attestation{{payload: padded(maxPayload)}}, large: true, want: reason.Verified},
		"of 32 MiB and a byte":                                  {attached: []attestation{{payload: padded(maxPayload + 1)}}, large: true, want: reason.AttestationInvalid, says: "33554433 bytes; at most 33554432 are read", fetched: map[string]int{padded(maxPayload + 1): 0}},
		"gzip":                                                  {attached: []attestation{{payload: zipped(good), mediaType: "application/json+gzip"}}, want: reason.Verified},
		"gzip, bad":                                             {attached: []attestation{{payload: zipped(bad)}}, want: reason.ConditionUnmet},
		"gzip, truncated":                                       {attached: []attestation{{payload: zipped(good)[:20]}}, want: reason.AttestationInvalid, says: "unexpected EOF"},
		"zstd":                                                  {attached: []attestation{{payload: zstandard(good), mediaType: "application/vnd.cyclonedx+json+zstd"}}, want: reason.Verified},
		"zstd, bad":                                             {attached: []attestation{{payload: zstandard(bad)}}, want: reason.ConditionUnmet},
		"gzip of exactly 32 MiB":                                {attached: []attestation{{payload: zipped(padded(maxPayload))}}, want: reason.Verified},
		"gzip bomb":                                             {attached: []attestation{{payload: zipped(padded(maxPayload + 1))}}, want: reason.AttestationInvalid, says: "decompressed, it is over 32 MiB"},
		"zstd of exactly 32 MiB":                                {attached: []attestation{{payload: zstandard(padded(maxPayload))}}, want: reason.Verified},
		"zstd bomb":                                             {attached: []attestation{{payload: zstandard(padded(maxPayload + 1))}}, want: reason.AttestationInvalid, says: "decompressed, it is over 32 MiB"},
		"not JSON":                                              {attached: []attestation{{payload: "licence: MIT"}}, want: reason.AttestationInvalid, says: "its payload is not JSON"},
		"JSON and more":                                         {attached: []attestation{{payload: good + bad}}, want: reason.AttestationInvalid, says: "its payload is not JSON"},
		"an empty payload":                                      {attached: []attestation{{payload: ""}}, want: reason.AttestationInvalid},
		"two layers":                                            {attached: []attestation{{layers: []signingtest.Layer{{MediaType: "application/json", Content: []byte(good)}, {MediaType: "application/json", Content: []byte(bad)}}}}, want: reason.AttestationInvalid, says: "2 layers"},
		"no layers, but the empty one":                          {attached: []attestation{{noLayers: true}}, want: reason.ConditionInvalid, says: `asks for "licence"`},
		"as oras attaches it":                                   {attached: []attestation{{payload: good, mediaType: ocispec.MediaTypeImageLayer}}, want: reason.Verified},
		"as oras attaches it, bad":                              {attached: []attestation{{payload: bad, mediaType: ocispec.MediaTypeImageLayer}}, want: reason.ConditionUnmet},
		"as oras attaches it, not JSON":                         {attached: []attestation{{payload: "licence: MIT", mediaType: ocispec.MediaTypeImageLayer}}, want: reason.AttestationInvalid, says: "its payload is not JSON"},
		"a folder, as oras attaches it":                         {attached: []attestation{{payload: zipped("sbom.json\x00 of a tar archive"), mediaType: ocispec.MediaTypeImageLayerGzip}}, want: reason.AttestationInvalid, says: "its payload is not JSON"},
		"XML":                                                   {attached: []attestation{{payload: good, mediaType: "application/xml"}}, want: reason.AttestationInvalid, says: `media type "application/xml"`},
		"a media type without end":                              {attached: []attestation{{payload: good, mediaType: "application/json; x=" + strings.Repeat("x", 1000)}}, want: reason.AttestationInvalid, says: `xxx..."; attach the document as application/json`},
		"no media type that is one":                             {attached: []attestation{{payload: good, mediaType: "json"}}, want: reason.AttestationInvalid},
		"CycloneDX":                                             {attached: []attestation{{payload: good, mediaType: "application/vnd.cyclonedx+json; version=1.5"}}, want: reason.Verified},
		"in-toto statement":                                     {attached: []attestation{{payload: `{"_type": "https://in-toto.io/Statement/v1", "predicate": ` + bad + `}`, mediaType: "application/vnd.in-toto+json"}}, demands: demanding(verification.SelectAll, "{{ element.predicate.licence }}"), want: reason.ConditionUnmet},
		"a path that is not there":                              {attached: []attestation{{payload: good}}, demands: demanding(verification.SelectAll, "{{ license }}"), want: reason.ConditionInvalid, says: `the expression "license" asks for "license"`},
		"level skip":                                            {attached: []attestation{{payload: good}}, level: "skip", want: reason.AttestationUntrusted, says: "level skip", fetched: map[string]int{good: 0}},
		"level skip and missing":                                {level: "skip", want: reason.AttestationMissing},
		"level audit, signed by Mallory":                        {attached: []attestation{{payload: good, signer: mallory}}, level: "audit", want: reason.Verified},
		"level audit, unmet":                                    {attached: []attestation{{payload: bad, signer: mallory}}, level: "audit", want: reason.ConditionUnmet},
		"level audit, unsigned":                                 {attached: []attestation{{payload: good, unsigned: true}}, level: "audit", want: reason.AttestationUntrusted},
		"of an image that is not signed":                        {prepare: unsignedImage, want: reason.NoSignature, fetched: map[string]int{good: 0}},
		"of an index, attached to the index":                    {prepare: index, want: reason.Verified},
	}
}

// mallory stands for the foreign signer of the registry at hand.
var mallory = &signingtest.Signer{}

func failing(i int) func(*target) registrytest.Fault {
	return func(x *target) registrytest.Fault {
		return registrytest.Only(registrytest.PathContains(x.attached[i].Digest.String()), registrytest.FailTimes(-1, http.StatusBadGateway, nil))
	}
}

func failingBlob(payload string) func(*target) registrytest.Fault {
	return func(*target) registrytest.Fault {
		return registrytest.Only(registrytest.PathContains(digest.FromString(payload).String()), registrytest.FailTimes(-1, http.StatusBadGateway, nil))
	}
}

func swapped(payload, other string) func(*target) registrytest.Fault {
	return func(*target) registrytest.Fault {
		return registrytest.SwapBlob(digest.FromString(payload).String(), []byte(other))
	}
}

func doubled(x *target) registrytest.Fault {
	return x.relist(func(list []ocispec.Descriptor) []ocispec.Descriptor { return append(list, list...) })
}

// replayed signs an attestation of another image, and gives the image itself an unrelated referrer.
func replayed(x *target) {
	repository := must(signingtest.Repository(x.registry.Host(), "acme/"+x.name, x.registry.Client(), true))
	other := must(signingtest.PushImage(x.Context(), repository, "other", signingtest.Image{Layers: [][]byte{[]byte("another image")}}))
	x.attach(attestation{payload: good, subject: &other})
}

// replay lists the attestation among the image's referrers.
func replay(x *target) registrytest.Fault {
	return x.relist(func(list []ocispec.Descriptor) []ocispec.Descriptor {
		listed := x.attached[0]
		listed.ArtifactType = sbomType
		return append(list, listed)
	})
}

// brokenSignature attaches a bad attestation whose signature manifest has no envelope, as anyone may push it.
func brokenSignature(x *target) {
	unsigned := x.attach(attestation{payload: bad, unsigned: true})
	x.attach(attestation{artifactType: "application/vnd.cncf.notary.signature", noLayers: true, layers: []signingtest.Layer{{MediaType: signingtest.JWS, Content: []byte("a")}, {MediaType: signingtest.JWS, Content: []byte("b")}}, unsigned: true, subject: &unsigned})
}

// buried attaches a bad attestation under more worthless signatures than are tried. Whether a good one is among them
// is not found out.
func buried(x *target) {
	pushed := x.attach(attestation{payload: bad, unsigned: true})
	for i := range 31 {
		if err := x.scenario.Sign(x.Context(), x.name, pushed, x.foreign, signingtest.SignRequest{SigningTime: yesterday.Add(time.Duration(i) * time.Second)}); err != nil {
			x.Fatal(err)
		}
	}
}

// otherSubject names the image by its digest, and lies about the rest.
func otherSubject(x *target) {
	subject := x.image
	subject.Size, subject.MediaType = 1, "application/vnd.docker.distribution.manifest.v2+json"
	x.attach(attestation{payload: good, subject: &subject})
}

func unsignedImage(x *target) {
	x.name += "-unsigned"
	x.image = must(x.scenario.PushSigned(x.Context(), x.name, nil, nil))
	x.attach(attestation{payload: good})
}

func index(x *target) {
	x.name += "-index"
	repository := must(signingtest.Repository(x.registry.Host(), "acme/"+x.name, x.registry.Client(), true))
	x.image = must(signingtest.PushIndex(x.Context(), repository, "v1"))
	if err := x.scenario.Sign(x.Context(), x.name, x.image, x.scenario.Signer(), signingtest.SignRequest{}); err != nil {
		x.Fatal(err)
	}
	x.attach(attestation{payload: good})
}

func TestAttestationsAreDecided(t *testing.T) {
	for kind, options := range registries(t) {
		t.Run(kind, func(t *testing.T) {
			b := newBed(t, options, 200)
			number := 0
			for sentence, c := range matrix() {
				if c.large && options.Handler != nil {
					continue
				}
				number++
				name := fmt.Sprintf("case-%d", number)
				t.Run(sentence, func(t *testing.T) {
					on := *b
					on.T = t
					if options.Handler != nil && c.byTag != "" {
						c.want = c.byTag
					}
					c.run(on.target(name))
				})
			}
		})
	}
}

func (c matrixCase) run(x *target) {
	x.Helper()
	for _, a := range c.attached {
		if a.signer == mallory {
			a.signer = x.foreign
		}
		x.attach(a)
	}
	if c.prepare != nil {
		c.prepare(x)
	}
	if c.fault != nil {
		x.registry.SetFault(c.fault(x))
		defer x.registry.SetFault(nil)
	}
	if c.demands == nil {
		c.demands = demanding(verification.SelectAll, licence)
	}
	x.registry.Reset()
	result := x.decide(x.gatherer, c.level, c.demands)
	if result.Code != c.want || !strings.Contains(result.Reason, c.says) {
		x.Errorf("%s: %s\nwant %s: ...%s...", result.Code, result.Reason, c.want, c.says)
	}
	if result.Code == reason.ConditionUnmet && !strings.Contains(result.Reason, "attestation sha256:") {
		x.Errorf("%s\nwant the attestation's digest in it", result.Reason)
	}
	for payload, want := range c.fetched {
		if got := x.fetched(payload); got != want {
			x.Errorf("the payload of %d bytes was fetched %d times; want %d", len(payload), got, want)
		}
	}
}

func TestReferrersOverTheLimitDeny(t *testing.T) {
	if testing.Short() {
		t.Skip("pushes a thousand artifacts to each registry")
	}
	const many = 500
	for kind, options := range registries(t) {
		t.Run(kind, func(t *testing.T) {
			b := newBed(t, options, 200)
			x := b.target("many")
			for i := range many {
				x.attach(attestation{payload: fmt.Sprintf(`{"licence": "MIT", "number": %d}`, i)})
			}
			b.registry.Reset()
			if result := x.decide(b.gatherer, "", demanding(verification.SelectAll, licence)); result.Code != reason.TooManyReferrers || !strings.Contains(result.Reason, "more than 200 attestations") {
				t.Errorf("with a limit of 200: %s: %s", result.Code, result.Reason)
			}
			if n := len(b.registry.Requests()); n > 10 {
				t.Errorf("%d requests to find that there are too many; want at most 10", n)
			}
			b.registry.Reset()
			began := time.Now()
			if result := x.decide(b.newGatherer(1000), "", demanding(verification.SelectAll, licence)); result.Code != reason.Verified {
				t.Errorf("with a limit of 1000: %s: %s", result.Code, result.Reason)
			}
			n := len(b.registry.Requests())
			t.Logf("%d attestations: %s, %d requests", many, time.Since(began).Round(time.Millisecond), n)
			each := lo.Ternary(options.Handler == nil, 5, 6) // the referrers API is asked for each
			if n > each*many+20 {
				t.Errorf("%d requests; want at most %d for each attestation", n, each)
			}
		})
	}
}

// held lets requests wait before they are answered, and tells when one arrives.
func held(match func(*http.Request) bool) (fault registrytest.Fault, arrived <-chan struct{}, release func()) {
	arrivals, let := make(chan struct{}, 1000), make(chan struct{})
	return registrytest.Only(match, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		arrivals <- struct{}{}
		select {
		case <-let:
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}), arrivals, sync.OnceFunc(func() { close(let) })
}

// heap is what is in use after all that is not has been freed; bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC() // the first one frees what pools held
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func TestLargeManifestsStayOutOfMemory(t *testing.T) {
	const number, size = 8, 2 << 20
	b := newBed(t, registrytest.Options{}, 200)
	x := b.target("large")
	x.attach(attestation{payload: good})
	for i := range number {
		filler := map[string]string{"x": fmt.Sprint(i) + strings.Repeat("x", size)}
		x.attach(attestation{payload: bad, unsigned: true, annotations: filler})
	}
	hold, arrived, release := held(registrytest.PathContains("/blobs/" + digest.FromString(good).String()))
	defer release()
	listed := x.relist(func(list []ocispec.Descriptor) []ocispec.Descriptor {
		for i := range list {
			list[i].Annotations = nil // no registry gives a list as long as that
		}
		return list
	})
	b.registry.SetFault(registrytest.Chain(hold, listed))
	x.attached = nil // of which the descriptors have the annotations too
	before := heap()
	answer := make(chan core.Result, 1)
	go func() { answer <- x.decide(b.gatherer, "", demanding(verification.SelectAll, licence)) }()
	<-arrived
	for deadline := time.Now().Add(10 * time.Second); ; { // the last manifests are read beside the payload
		grown := heap() - before
		if grown <= number*size/4 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("%d bytes more than before are in use, of manifests of %d", grown, number*size)
			break
		}
	}
	release()
	if got := <-answer; !got.Verified {
		t.Errorf("%s: %s", got.Code, got.Reason)
	}
}

func TestAttestationsShareTheMemoryBudget(t *testing.T) {
	const number, images, verifications = 12, 2, 4
	b := newBed(t, registrytest.Options{}, 200)
	client := must(shellregistry.New(shellregistry.Options{AllowLoopback: true, InsecureHosts: []string{b.registry.Host()}, MaxReferrers: 200}))
	gatherer := must(verify.New(client, plugin.NewManager(plugin.Options{Dir: t.TempDir(), Timeout: time.Second}), cache.New(cache.Options{}),
		verify.Options{Limits: verification.Limits{MaxReferrers: 200, MaxSignatureAttempts: 30}, MaxParallel: 16, MaxVerifications: verifications, MaxQueued: 100}))
	t.Cleanup(gatherer.Close)
	var targets []*target
	attached := map[string]bool{}
	for i := range images {
		x := b.target(fmt.Sprintf("shared-%d", i))
		for j := range number {
			attached[x.attach(attestation{payload: fmt.Sprintf(`{"licence":"MIT","number":%d}`, j)}).Digest.String()] = true
		}
		targets = append(targets, x)
	}
	var reading atomic.Int64
	arrived, proceed := make(chan struct{}, 1000), make(chan struct{})
	b.registry.SetFault(registrytest.Only(func(r *http.Request) bool { return r.Method == http.MethodGet && attached[path.Base(r.URL.Path)] },
		func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if n := reading.Add(1); n > images+verifications {
				t.Errorf("%d are looked at, of %d that may be", n, images+verifications)
			}
			arrived <- struct{}{}
			select {
			case <-proceed:
			case <-r.Context().Done():
			}
			reading.Add(-1)
			next.ServeHTTP(w, r)
		}))
	results := make(chan core.Result, images)
	for _, x := range targets {
		go func() { results <- x.decide(gatherer, "", demanding(verification.SelectAll, licence)) }()
	}
	for range images + verifications {
		<-arrived
	}
	for range images*number - images - verifications { // the others come one by one, each when there is room for it
		proceed <- struct{}{}
		<-arrived
	}
	close(proceed)
	for range images {
		if got := <-results; got.Code != reason.Verified {
			t.Errorf("%s: %s", got.Code, got.Reason)
		}
	}
}

// TestDocumentsStayOutOfMemoryAfterTheirEvaluation measures the memory while one of many documents is still being read.
func TestDocumentsStayOutOfMemoryAfterTheirEvaluation(t *testing.T) {
	const number, size = 6, 4 << 20
	b := newBed(t, registrytest.Options{}, 200)
	x := b.target("payloads")
	var paths []string // the last part of those of the payloads
	for i := range number {
		x.attach(attestation{payload: padded(size + i)})
		paths = append(paths, digest.FromString(padded(size+i)).String())
	}
	hold, arrived, release := held(registrytest.PathContains("/blobs/" + paths[0]))
	defer release()
	b.registry.SetFault(hold)
	b.registry.Reset()
	before := heap()
	answer := make(chan core.Result, 1)
	go func() { answer <- x.decide(b.gatherer, "", demanding(verification.SelectAll, licence)) }()
	<-arrived
	all := func() bool {
		blobs := slices.DeleteFunc(b.registry.Requests(), func(r registrytest.Request) bool { return !slices.Contains(paths, path.Base(r.Path)) })
		return len(blobs) == number
	}
	for deadline := time.Now().Add(2 * time.Minute); !all() || heap()-before > 2*size; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes more than before are in use, of payloads of %d", heap()-before, number*size)
		}
	}
	release()
	if got := <-answer; !got.Verified {
		t.Errorf("%s: %s", got.Code, got.Reason)
	}
}

// TestSlowRegistriesHoldUpNoOtherPolicy asks for an attestation while documents of another trust policy are being read,
// of the largest size that one policy may hold, and one that is compressed.
func TestSlowRegistriesHoldUpNoOtherPolicy(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 200)
	slow, quick := b.target("slow"), b.target("quick")
	payloads := []string{padded(maxPayload - 1<<10), zipped(good)}
	for i, mediaType := range []string{"application/json", "application/json+gzip"} {
		slow.attach(attestation{payload: payloads[i], mediaType: mediaType})
	}
	quick.attach(attestation{payload: good})
	blobs := []string{digest.FromString(payloads[0]).String(), digest.FromString(payloads[1]).String()}
	hold, arrived, release := held(func(r *http.Request) bool { return slices.Contains(blobs, path.Base(r.URL.Path)) })
	defer release()
	b.registry.SetFault(hold)
	answer := make(chan core.Result, 1)
	go func() { answer <- slow.decide(b.gatherer, "", demanding(verification.SelectAll, licence)) }()
	<-arrived
	<-arrived
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	plan := quick.plan("", demanding(verification.SelectAll, licence))
	plan.Tasks[0].Policy = "other"
	if got := core.Decide(plan, b.gatherer.Gather(ctx, plan.Tasks, time.Now()), time.Now()).Results[0]; !got.Verified {
		t.Errorf("%s: %s", got.Code, got.Reason)
	}
	release()
	if got := <-answer; !got.Verified {
		t.Errorf("the slow one: %s: %s", got.Code, got.Reason)
	}
}

func TestRequestsShareNoDocuments(t *testing.T) {
	const requests = 64
	b := newBed(t, registrytest.Options{}, 200)
	targets := make([]*target, requests)
	for i := range targets {
		targets[i] = b.target(fmt.Sprintf("image-%d", i))
		targets[i].attach(attestation{payload: fmt.Sprintf(`{"licence": "Licence-%d", "words": ["%d"]}`, i, i)})
	}
	var running sync.WaitGroup
	for i, x := range targets {
		running.Go(func() {
			for round := range 4 {
				wanted, code := i, reason.Verified
				if round%2 == 1 {
					wanted, code = (i+1)%requests, reason.ConditionUnmet
				}
				demand := verification.AttestationType{Name: sbomType, Select: verification.SelectAll}
				demand.Conditions.All = []condition.Condition{
					{Key: []byte(`"{{ licence }}"`), Operator: "Equals", Value: fmt.Appendf(nil, `"Licence-%d"`, wanted)},
					{Key: []byte(`"{{ element.words }}"`), Operator: "AllIn", Value: fmt.Appendf(nil, `["%d"]`, wanted)},
				}
				result := x.decide(b.gatherer, "", []verification.AttestationType{demand})
				if result.Code != code || code != reason.Verified && !strings.Contains(result.Reason, fmt.Sprintf(`found "Licence-%d"`, i)) {
					t.Errorf("image %d, wanted %d: %s: %s", i, wanted, result.Code, result.Reason)
				}
			}
		})
	}
	running.Wait()
}

func TestPanicsDeny(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	x := b.target("panic")
	x.attach(attestation{payload: good})
	for good := range int32(2) { // verifications that go well: none, or the image's but not the attestation's
		var asked atomic.Int32
		gatherer := b.newGathererWith(10, func() map[string]string {
			if asked.Add(1) > good+1 { // the first is for the revision of the plugins
				panic("out of order")
			}
			return nil
		})
		if got := x.decide(gatherer, "", demanding(verification.SelectAll, licence)); got.Code != reason.NotGathered {
			t.Errorf("panic at verification %d: %s, %s", good+1, got.Code, got.Reason)
		}
	}
}
