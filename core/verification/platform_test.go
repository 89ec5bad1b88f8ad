package verification_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// pushIndex makes a tag of an index of manifests, whose platforms follow their names after "@".
func (r *registry) pushIndex(tag string, children ...string) (index verification.Descriptor, manifests []verification.Descriptor) {
	index = r.push(tag, "index")
	facts := verification.IndexFacts{IsIndex: true}
	for _, child := range children {
		name, platform, _ := strings.Cut(child, "@")
		parts := append(strings.Split(platform, "/"), "", "")
		manifest := descriptor(name)
		if strings.HasPrefix(name, "nested") {
			manifest.MediaType = "application/vnd.oci.image.index.v1+json"
		}
		manifests = append(manifests, manifest)
		facts.Children = append(facts.Children, verification.Child{Descriptor: manifest, Platform: image.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}})
	}
	r.answers[verification.Lookup{Kind: verification.Index, Repository: repository, Subject: index.Digest}] = verification.Answer{Index: facts}
	return index, manifests
}

func platforms(t testing.TB, written string) image.Platforms {
	t.Helper()
	read, err := image.ReadPlatforms(strings.Fields(written))
	if err != nil {
		t.Fatal(err)
	}
	return read
}

func manyChildren(n int) (children []string) {
	for i := range n {
		children = append(children, fmt.Sprintf("child %d@linux/cpu%d", i, i))
	}
	return children
}

func TestNextVerifiesByPlatform(t *testing.T) {
	amd64, arm64 := "one@linux/amd64", "two@linux/arm64"
	tests := map[string]struct {
		chosen   string
		children []string
		signed   []int // manifests of the index
		by       string
		unsigned bool // the index itself
		types    []string
		attest   func(r *registry, index verification.Descriptor, manifests []verification.Descriptor)

		rounds, requests int
		code             reason.Code // "" where nothing stands against the image
		says             string
	}{
		"the index alone asks for nothing more": {"", []string{amd64, arm64}, nil, "acme", false, nil, nil, 4, 4, "", ""},
		"all of two":                            {"all", []string{amd64, arm64}, []int{0, 1}, "acme", false, nil, nil, 7, 5 + 2*3, "", ""},
		"one of two":                            {"linux/amd64", []string{amd64, arm64}, []int{0}, "acme", false, nil, nil, 7, 5 + 3, "", ""},
		"one that is not signed":                {"all", []string{amd64, arm64}, []int{0}, "acme", false, nil, nil, 7, 5 + 3 + 1, reason.NoSignature, "platform linux/arm64 (" + digestOf("two")},
		"signed by a stranger":                  {"linux/amd64", []string{amd64}, []int{0}, "mallory", false, nil, nil, 7, 5 + 3, reason.SignatureUntrusted, "platform linux/amd64 (" + digestOf("one")},
		"an index that is not signed costs one request more, whatever it lists": {"all", []string{amd64, arm64}, []int{0, 1}, "acme", true, nil, nil, 2, 3, reason.NoSignature, digestOf("index")},
		"BuildKit's attestation manifests need no signature":                    {"all", []string{amd64, "describes@unknown/unknown"}, []int{0}, "acme", false, nil, nil, 7, 5 + 3, "", ""},
		"an index of those alone has nothing to run":                            {"all", []string{"describes@unknown/unknown"}, nil, "acme", false, nil, nil, 4, 5, reason.PlatformMissing, "any platform"},
		"an index of nothing":                                   {"all", nil, nil, "acme", false, nil, nil, 4, 5, reason.PlatformMissing, "any platform"},
		"a platform that is not there":                          {"linux/s390x", []string{amd64}, []int{0}, "acme", false, nil, nil, 4, 5, reason.PlatformMissing, "linux/s390x"},
		"a platform twice needs both signed":                    {"linux/amd64", []string{amd64, "other@linux/amd64"}, []int{0}, "acme", false, nil, nil, 7, 5 + 3 + 1, reason.NoSignature, digestOf("other")},
		"one manifest twice is verified once":                   {"linux/amd64", []string{amd64, amd64}, []int{0}, "acme", false, nil, nil, 7, 5 + 3, "", ""},
		"one manifest for two platforms is verified once":       {"all", []string{amd64, "one@linux/arm64"}, []int{0}, "acme", false, nil, nil, 7, 5 + 3, "", ""},
		"a manifest without a platform must be signed":          {"linux/amd64", []string{amd64, "any@"}, []int{0}, "acme", false, nil, nil, 7, 5 + 3 + 1, reason.NoSignature, "any platform (" + digestOf("any")},
		"an index in an index":                                  {"all", []string{amd64, "nested@"}, []int{0, 1}, "acme", false, nil, nil, 4, 5, reason.IndexInvalid, "index in an index"},
		"an index in an index for a platform that nobody chose": {"linux/amd64", []string{amd64, "nested@linux/arm64"}, []int{0}, "acme", false, nil, nil, 7, 5 + 3, "", ""},
		"as many as are verified":                               {"all", manyChildren(8), []int{0, 1, 2, 3, 4, 5, 6, 7}, "acme", false, nil, nil, 7, 5 + 8*3, "", ""},
		"more than are verified cost nothing more":              {"all", manyChildren(9), []int{0, 1, 2, 3, 4, 5, 6, 7, 8}, "acme", false, nil, nil, 4, 5, reason.TooManyPlatforms, "9 manifests"},
		"more than are verified, of which one is chosen":        {"linux/cpu3", manyChildren(200), []int{3}, "acme", false, nil, nil, 7, 5 + 3, "", ""},
		"an attestation of each": {"all", []string{amd64, arm64}, []int{0, 1}, "acme", false, []string{typeSBOM}, func(r *registry, _ verification.Descriptor, manifests []verification.Descriptor) {
			for i, manifest := range manifests {
				r.attest(manifest, typeSBOM, fmt.Sprint("sbom ", i), "acme")
			}
		}, 8, 5 + 2*(1+2+5), "", ""},
		"an attestation of the index for all": {"all", []string{amd64, arm64}, []int{0, 1}, "acme", false, []string{typeSBOM}, func(r *registry, index verification.Descriptor, _ []verification.Descriptor) {
			r.attest(index, typeSBOM, "sbom", "acme")
		}, 7, 10 + 2*3, "", ""},
		"an attestation of one, which the other lacks": {"all", []string{amd64, arm64}, []int{0, 1}, "acme", false, []string{typeSBOM}, func(r *registry, _ verification.Descriptor, manifests []verification.Descriptor) {
			r.attest(manifests[0], typeSBOM, "sbom", "acme")
		}, 8, 5 + 2*3 + 5, reason.AttestationMissing, "platform linux/arm64"},
		"an attestation that a stranger signed does not count": {"all", []string{amd64}, []int{0}, "acme", false, []string{typeSBOM}, func(r *registry, _ verification.Descriptor, manifests []verification.Descriptor) {
			r.attest(manifests[0], typeSBOM, "sbom", "mallory")
		}, 8, 5 + 3 + 5, reason.AttestationUntrusted, "platform linux/amd64"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			r := newRegistry()
			index, manifests := r.pushIndex("v1", test.children...)
			if !test.unsigned {
				r.sign(index, "signature of the index", "acme")
			}
			for _, i := range test.signed {
				r.sign(manifests[i], fmt.Sprint("signature ", i), test.by)
			}
			if test.attest != nil {
				test.attest(r, index, manifests)
			}
			task := taskFor(t, repository+":v1", test.types...)
			task.Platforms, task.Limits.MaxPlatforms = platforms(t, test.chosen), 8
			outcome := r.verify(t, task)
			if r.rounds != test.rounds || len(r.asked) != test.requests {
				t.Errorf("%d rounds, %d requests; want %d and %d: %+v", r.rounds, len(r.asked), test.rounds, test.requests, r.asked)
			}
			finding := verification.Check(task, outcome.Fact, now)
			switch {
			case finding == nil && test.code != "", finding != nil && finding.Code != test.code:
				t.Errorf("%+v; want %q", finding, test.code)
			case finding != nil && !strings.Contains(finding.Reason, test.says):
				t.Errorf("%q does not say %q", finding.Reason, test.says)
			}
			if definitive := finding == nil || finding.Code.Definitive(); (outcome.Freshness.For > 0) != definitive {
				t.Errorf("kept for %s", outcome.Freshness.For)
			}
		})
	}
}

// TestASignatureIsForTheManifestAsTheIndexListsIt holds that the entry of an index decides, which is what runtimes go by.
func TestASignatureIsForTheManifestAsTheIndexListsIt(t *testing.T) {
	for what, change := range map[string]func(*verification.Descriptor){
		"another size":       func(d *verification.Descriptor) { d.Size++ },
		"another media type": func(d *verification.Descriptor) { d.MediaType = "application/vnd.docker.distribution.manifest.v2+json" },
		"another digest":     func(d *verification.Descriptor) { d.Digest = digestOf("another") },
	} {
		r := newRegistry()
		index, manifests := r.pushIndex("v1", "one@linux/amd64")
		r.sign(index, "signature of the index", "acme")
		signed := manifests[0]
		change(&signed)
		_, layer := r.attach(manifests[0], verification.TypeSignature, "signature", "application/jose+json")
		r.envelope[layer.Digest] = reportOf(signed, "acme")
		task := taskFor(t, repository+":v1")
		task.Platforms, task.Limits.MaxPlatforms = platforms(t, "all"), 8
		if finding := verification.Check(task, r.verify(t, task).Fact, now); finding == nil || finding.Code != reason.SignatureMismatch {
			t.Errorf("%s: %+v", what, finding)
		}
	}
}

// TestPlatformsAreInTheKeyOfAnOutcome so that what was verified for one choice answers no other.
func TestPlatformsAreInTheKeyOfAnOutcome(t *testing.T) {
	resolved := verification.Answer{Descriptor: descriptor("index")}
	keys := map[verification.Lookup]string{}
	for _, chosen := range []string{"", "all", "linux/amd64", "linux/amd64 linux/arm64", "all linux/amd64"} {
		task := taskFor(t, repository+":v1")
		task.Platforms = platforms(t, chosen)
		key, ok := verification.Key(task, resolved)
		if other, taken := keys[key]; !ok || taken {
			t.Errorf("%q has the key of %q", chosen, other)
		}
		keys[key] = chosen
	}
}

// TestWithoutABoundNothingIsVerifiedByPlatform holds that the zero value of the limit is secure.
func TestWithoutABoundNothingIsVerifiedByPlatform(t *testing.T) {
	r := newRegistry()
	index, manifests := r.pushIndex("v1", "one@linux/amd64")
	r.sign(index, "s1", "acme")
	r.sign(manifests[0], "s2", "acme")
	task := taskFor(t, repository+":v1")
	task.Platforms = platforms(t, "all")
	if finding := verification.Check(task, r.verify(t, task).Fact, now); finding == nil || finding.Code != reason.TooManyPlatforms {
		t.Errorf("%+v", finding)
	}
}

// TestSignaturesAreLookedForWhereTheStatementSays, and the image where the image is.
func TestSignaturesAreLookedForWhereTheStatementSays(t *testing.T) {
	r := newRegistry()
	index, manifests := r.pushIndex("v1", "one@linux/amd64")
	for i, of := range append(manifests, index) {
		r.sign(of, fmt.Sprint("s", i), "acme")
	}
	const elsewhere = "reg.example/acme/signatures"
	for lookup, answer := range r.answers {
		if lookup.Kind == verification.Manifest {
			delete(r.answers, lookup)
			lookup.Repository = elsewhere
			r.answers[lookup] = answer
		}
	}
	task := taskFor(t, repository+":v1")
	task.Statement.SignatureRepository = elsewhere
	task.Platforms, task.Limits.MaxPlatforms = platforms(t, "all"), 8
	if finding := verification.Check(task, r.verify(t, task).Fact, now); finding != nil {
		t.Errorf("%+v", finding)
	}
	for _, lookup := range r.asked {
		ofImage := lookup.Kind == verification.Resolve || lookup.Kind == verification.Index
		if want := map[bool]string{true: repository, false: elsewhere}[ofImage]; lookup.Repository != want {
			t.Errorf("%+v is asked for; want it in %s", lookup, want)
		}
	}
}
