package verification_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/condition"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

const (
	repository = "reg.example/acme/app"
	typeSBOM   = "application/vnd.cyclonedx+json"
	typeImage  = "application/vnd.oci.image.manifest.v1+json"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// digestOf is a digest that tells what it is of.
func digestOf(name string) string {
	return "sha256:" + fmt.Sprintf("%-64x", name)[:min(64, 2*len(name))] + strings.Repeat("0", max(0, 64-2*len(name)))
}

// registry answers lookups without a registry: what is pushed into it refers to each other as it would in one.
type registry struct {
	answers  map[verification.Lookup]verification.Answer
	lists    map[string][]verification.Referrer // by subject
	envelope map[string]verification.Report     // by digest
	long     bool                               // lists of all types have more than one page
	document map[string]verification.Evaluation // by digest
	task     verification.Task
	asked    []verification.Lookup
	rounds   int
	deciding time.Duration                                 // in Next
	spoil    func(verification.Answer) verification.Answer // nil for true answers
}

func newRegistry() *registry {
	return &registry{
		answers: map[verification.Lookup]verification.Answer{}, lists: map[string][]verification.Referrer{},
		envelope: map[string]verification.Report{}, document: map[string]verification.Evaluation{},
	}
}

func descriptor(name string) verification.Descriptor {
	return verification.Descriptor{MediaType: typeImage, Digest: digestOf(name), Size: int64(100 + len(name))}
}

// push makes a tag.
func (r *registry) push(tag, name string) verification.Descriptor {
	image := descriptor(name)
	r.answers[verification.Lookup{Kind: verification.Resolve, Repository: repository, Subject: tag}] = verification.Answer{Descriptor: image}
	r.answers[verification.Lookup{Kind: verification.Describe, Repository: repository, Subject: image.Digest}] = verification.Answer{Descriptor: image}
	return image
}

// attach makes a manifest of one layer that refers to another.
func (r *registry) attach(subject verification.Descriptor, artifactType, name, layerType string) (manifest, layer verification.Descriptor) {
	manifest, layer = descriptor(name), verification.Descriptor{MediaType: layerType, Digest: digestOf("layer of " + name), Size: 10}
	r.lists[subject.Digest] = append(r.lists[subject.Digest], verification.Referrer{Descriptor: manifest, ArtifactType: artifactType})
	facts := verification.ManifestFacts{Descriptor: manifest, ArtifactType: artifactType, Subject: subject, Layers: []verification.Descriptor{layer}, LayerCount: 1}
	r.answers[verification.Lookup{Kind: verification.Manifest, Repository: repository, Subject: manifest.Digest}] = verification.Answer{Manifest: facts}
	return manifest, layer
}

// sign attaches a signature.
func (r *registry) sign(subject verification.Descriptor, name, signer string) {
	_, layer := r.attach(subject, verification.TypeSignature, name, "application/jose+json")
	r.envelope[layer.Digest] = reportOf(subject, signer)
}

// attest attaches a signed attestation.
func (r *registry) attest(subject verification.Descriptor, artifactType, name, signer string) {
	manifest, layer := r.attach(subject, artifactType, name, "application/json")
	r.document[layer.Digest] = verification.Evaluation{At: now}
	r.sign(manifest, "signature of "+name, signer)
}

func (r *registry) answer(lookup verification.Lookup) verification.Answer {
	switch lookup.Kind {
	case verification.List:
		var found []verification.Referrer
		for _, entry := range r.lists[lookup.Subject] {
			if lookup.Type == "" || lookup.Type == entry.ArtifactType {
				found = append(found, entry)
			}
		}
		if lookup.Type == "" && r.long {
			return verification.Answer{List: verification.Referrers{Entries: found[:min(1, len(found))], Partial: true}}
		}
		return verification.Answer{List: verification.Referrers{Entries: found}}
	case verification.Signature:
		return verification.Answer{Signature: verification.Assess(r.task, r.envelope[lookup.Subject], now)}
	case verification.Document:
		return verification.Answer{Document: r.document[lookup.Subject]}
	}
	answer, ok := r.answers[lookup]
	if !ok {
		missing := reason.Finding{Code: reason.ImageNotFound, Reason: "the registry has no such image"}
		return verification.Answer{Failure: &verification.Failure{Finding: missing, Unusable: true, Absent: true}}
	}
	return answer
}

// verify follows the course of a task to its end.
func (r *registry) verify(t testing.TB, task verification.Task) verification.Outcome {
	t.Helper()
	r.task = task
	evidence := verification.Evidence{}
	for range 100 {
		began := time.Now()
		step := verification.Next(task, evidence, now)
		r.deciding += time.Since(began)
		if step.Outcome != nil {
			return *step.Outcome
		}
		if len(step.Lookups) == 0 {
			t.Fatal("a step without lookups and outcome")
		}
		r.rounds++
		for _, lookup := range step.Lookups {
			if _, known := evidence[lookup]; known {
				t.Fatalf("%+v is asked for twice", lookup)
			}
			r.asked = append(r.asked, lookup)
			evidence[lookup] = r.answer(lookup)
			if r.spoil != nil {
				evidence[lookup] = r.spoil(evidence[lookup])
			}
		}
	}
	t.Fatal("no end after 100 rounds")
	return verification.Outcome{}
}

var signers = map[string]*x509.Certificate{
	"acme":    {Raw: []byte("acme"), Subject: name("acme"), NotAfter: now.Add(time.Hour)},
	"mallory": {Raw: []byte("mallory"), Subject: name("mallory"), NotAfter: now.Add(time.Hour)},
}

func name(organization string) pkix.Name {
	return pkix.Name{Country: []string{"US"}, Province: []string{"UT"}, Organization: []string{organization}, CommonName: "release"}
}

// reportOf is what notation-go finds of a signature under the trust of Acme.
func reportOf(target verification.Descriptor, signer string) verification.Report {
	authenticity := verification.CheckReport{Name: verification.CheckAuthenticity}
	if signer != "acme" {
		authenticity.Problem = "signature is not produced by a trusted signer"
	}
	return verification.Report{
		Began: now, Target: target, Scheme: trust.SchemeX509, SignedAt: now.Add(-time.Hour), Chain: []*x509.Certificate{signers[signer]},
		Checks:   []verification.CheckReport{{Name: verification.CheckIntegrity}, authenticity, {Name: verification.CheckExpiry}},
		Enforced: map[string]bool{verification.CheckIntegrity: true, verification.CheckAuthenticity: true, verification.CheckExpiry: true},
	}
}

// taskFor demands attestations of types, with a condition, of the image that a reference names.
func taskFor(t testing.TB, reference string, types ...string) verification.Task {
	t.Helper()
	ref, err := image.Parse(reference)
	if err != nil {
		t.Fatal(err)
	}
	acme := trust.StoreRef{Type: trust.StoreCA, Name: "acme"}
	task := verification.Task{
		Ref: ref, Policy: "tp", Revision: "1",
		Statement: trust.Statement{Name: "acme", Level: "strict", TrustStores: []string{acme.String()}, TrustedIdentities: []string{"*"}},
		Stores:    trust.Stores{acme: {Ref: acme, Certificates: []*x509.Certificate{signers["acme"]}}},
		Limits:    verification.Limits{MaxReferrers: 50, MaxSignatureAttempts: 30, Keep: time.Hour, KeepTags: 10 * time.Second},
	}
	for _, of := range types {
		conditions := condition.Conditions{All: []condition.Condition{{Key: json.RawMessage(`"{{ x }}"`), Operator: "Equals", Value: json.RawMessage(`1`)}}}
		task.Attestations = append(task.Attestations, verification.AttestationType{Name: of, Select: verification.SelectAll, Conditions: conditions})
	}
	return task
}

func manyTypes() (types []string) {
	for i := range 30 {
		types = append(types, fmt.Sprint("a/", i))
	}
	return types
}

func TestNextTakesTheFewestRoundsAndRequests(t *testing.T) {
	tests := map[string]struct {
		push             func(r *registry, image verification.Descriptor)
		byDigest         bool
		types            []string
		rounds, requests int
		code             reason.Code // "" where nothing stands against the image
	}{
		"an image": {
			push:   func(r *registry, image verification.Descriptor) { r.sign(image, "s1", "acme") },
			rounds: 4, requests: 4,
		},
		"an image by digest": {
			push:     func(r *registry, image verification.Descriptor) { r.sign(image, "s1", "acme") },
			byDigest: true, rounds: 3, requests: 3,
		},
		"with an attestation": {
			push: func(r *registry, image verification.Descriptor) {
				r.sign(image, "s1", "acme")
				r.attest(image, typeSBOM, "sbom", "acme")
			},
			types: []string{typeSBOM}, rounds: 5, requests: 9,
		},
		"with three types of attestation": {
			push: func(r *registry, image verification.Descriptor) {
				r.sign(image, "s1", "acme")
				for _, of := range []string{"a/b", "c/d", "e/f"} {
					r.attest(image, of, "of "+of, "acme")
				}
			},
			types: []string{"a/b", "c/d", "e/f"}, rounds: 5, requests: 19,
		},
		"with an attestation, and a list of more than one page": {
			push: func(r *registry, image verification.Descriptor) {
				r.long = true
				r.sign(image, "s1", "acme")
				r.attest(image, typeSBOM, "sbom", "acme")
			},
			types: []string{typeSBOM}, rounds: 6, requests: 11,
		},
		"without a signature": {
			push:   func(*registry, verification.Descriptor) {},
			rounds: 2, requests: 2, code: reason.NoSignature,
		},
		"without a signature, of which an attestation is demanded": {
			push:  func(r *registry, image verification.Descriptor) { r.attest(image, typeSBOM, "sbom", "acme") },
			types: []string{typeSBOM}, rounds: 2, requests: 2, code: reason.NoSignature,
		},
		"without a signature, by digest": {
			push:     func(*registry, verification.Descriptor) {},
			byDigest: true, rounds: 2, requests: 2, code: reason.NoSignature,
		},
		"signed by a stranger": {
			push:   func(r *registry, image verification.Descriptor) { r.sign(image, "s1", "mallory") },
			rounds: 4, requests: 4, code: reason.SignatureUntrusted,
		},
		"signed by a stranger, by digest": {
			push:     func(r *registry, image verification.Descriptor) { r.sign(image, "s1", "mallory") },
			byDigest: true, rounds: 3, requests: 3, code: reason.SignatureUntrusted,
		},
		"signed by seven strangers": {
			push: func(r *registry, image verification.Descriptor) {
				for i := range 7 {
					r.sign(image, fmt.Sprint("s", i), "mallory")
				}
			},
			rounds: 8, requests: 16, code: reason.SignatureUntrusted, // one, two and four side by side
		},
		"signed by a stranger first": {
			push: func(r *registry, image verification.Descriptor) {
				r.sign(image, "s1", "mallory")
				r.sign(image, "s2", "acme")
			},
			rounds: 6, requests: 6,
		},
		"with an attestation that a stranger signed": {
			push: func(r *registry, image verification.Descriptor) {
				r.sign(image, "s1", "acme")
				r.attest(image, typeSBOM, "sbom", "mallory")
			},
			types: []string{typeSBOM}, rounds: 5, requests: 9, code: reason.AttestationUntrusted,
		},
		"signed by a stranger, with many attestations, of which few are looked at beside": {
			push: func(r *registry, image verification.Descriptor) {
				r.sign(image, "s1", "mallory")
				for i := range 50 {
					r.attest(image, typeSBOM, fmt.Sprint("sbom", i), "mallory")
				}
			},
			types: []string{typeSBOM}, rounds: 4, requests: 4 + 8*3, code: reason.SignatureUntrusted,
		},
		"with many types of attestation, and signed by a stranger": {
			push: func(r *registry, image verification.Descriptor) {
				r.long = true
				r.sign(image, "s1", "mallory")
			},
			types: manyTypes(), rounds: 5, requests: 5 + 8, code: reason.SignatureUntrusted,
		},
		"with many attestations": {
			push: func(r *registry, image verification.Descriptor) {
				r.sign(image, "s1", "acme")
				for i := range 20 {
					r.attest(image, typeSBOM, fmt.Sprint("sbom", i), "acme")
				}
			},
			types: []string{typeSBOM}, rounds: 8, requests: 4 + 20*5,
		},
		"without the attestation": {
			push:  func(r *registry, image verification.Descriptor) { r.sign(image, "s1", "acme") },
			types: []string{typeSBOM}, rounds: 4, requests: 4, code: reason.AttestationMissing,
		},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			r := newRegistry()
			image := r.push("v1", "image")
			test.push(r, image)
			reference := repository + ":v1"
			if test.byDigest {
				reference = repository + "@" + image.Digest
			}
			task := taskFor(t, reference, test.types...)
			outcome := r.verify(t, task)
			if r.rounds != test.rounds || len(r.asked) != test.requests {
				t.Errorf("%d rounds, %d requests; want %d and %d: %+v", r.rounds, len(r.asked), test.rounds, test.requests, r.asked)
			}
			var code reason.Code
			finding := verification.Check(task, outcome.Fact, now)
			if finding != nil {
				code = finding.Code
			}
			if code != test.code {
				t.Errorf("%+v; want %q", finding, test.code)
			}
		})
	}
}

func TestNextEndsWhateverIsAnswered(t *testing.T) {
	admitted := 0
	for seed := range uint64(3000) {
		random := rand.New(rand.NewPCG(seed, 1))
		r := newRegistry()
		image := r.push("v1", "image")
		signed := false
		for i := range random.IntN(6) {
			signer := []string{"acme", "mallory"}[random.IntN(2)]
			signed = signed || signer == "acme"
			r.sign(image, fmt.Sprint("s", i), signer)
		}
		for i := range random.IntN(4) {
			r.attest(image, typeSBOM, fmt.Sprint("sbom", i), []string{"acme", "acme", "mallory"}[random.IntN(3)])
		}
		r.long = random.IntN(3) == 0 && len(r.lists[image.Digest]) > 0
		reference := []string{repository + ":v1", repository + "@" + image.Digest}[random.IntN(2)]
		task := taskFor(t, reference, []string{typeSBOM}[:random.IntN(2)]...)
		task.Limits.MaxSignatureAttempts, task.Limits.MaxReferrers = 1+random.IntN(6), 1+random.IntN(8)
		r.spoil = func(answer verification.Answer) verification.Answer { return spoilt(random, answer) }
		outcome := r.verify(t, task)
		if verification.Check(task, outcome.Fact, now) != nil {
			continue
		}
		if admitted++; !signed {
			t.Errorf("seed %d: admitted, and Acme has signed nothing", seed)
		}
	}
	if admitted < 100 {
		t.Errorf("only %d were admitted", admitted)
	}
}

// spoilt lets one answer in eight fail, say nothing, or say what is not so.
func spoilt(random *rand.Rand, answer verification.Answer) verification.Answer {
	if random.IntN(8) > 0 {
		return answer
	}
	finding := reason.Finding{Code: reason.RegistryUnavailable, Reason: "the registry failed"}
	switch random.IntN(6) {
	case 0:
		return verification.Answer{Failure: &verification.Failure{Finding: finding}}
	case 1:
		return verification.Answer{Failure: &verification.Failure{Finding: finding, Unusable: true}}
	case 2:
		return verification.Answer{Failure: &verification.Failure{Finding: finding, Unusable: true, Absent: true}}
	case 3:
		answer.List.Partial = true
	case 4:
		answer.Manifest.ArtifactType, answer.Manifest.LayerCount = "text/plain", random.IntN(3)
	case 5:
		return verification.Answer{}
	}
	return answer
}
