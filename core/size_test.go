package core_test

import (
	"crypto/x509"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/condition"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// manyContainers is a Pod with n containers.
func manyContainers(n int) []byte {
	var text strings.Builder
	text.WriteString(`{"object":{"kind":"Pod","spec":{"containers":[`)
	for i := range n {
		if i > 0 {
			text.WriteString(",")
		}
		fmt.Fprintf(&text, `{"name":"container-%d","image":"registry.acme.io/team/some/app-%d:v1"}`, i, i)
	}
	text.WriteString(`]}},"imageReferences":["*acme*/*app*:*"],"attestations":[{"imageReference":"*/*/*/*:v1","type":[{"name":"sbom"}]}]}`)
	return []byte(text.String())
}

// manyRoots is trust whose store holds a company's worth of roots.
func manyRoots() trust.Snapshot {
	snapshot := everything()
	policy := snapshot.Policies["default"]
	policy.Statements[0].TrustStores = []string{"ca:acme"}
	store := trust.Store{Ref: trust.StoreRef{Type: "ca", Name: "acme"}}
	for i := range 200 {
		store.Certificates = append(store.Certificates, &x509.Certificate{Raw: fmt.Appendf(make([]byte, 1500), "%d", i)})
	}
	snapshot.Stores = map[trust.StoreRef]trust.Store{store.Ref: store}
	return snapshot
}

// TestLargestRequestIsDecidedInTime guards against work that grows so fast with a request that it does not end.
// BenchmarkPlanAndDecide measures it.
func TestLargestRequestIsDecidedInTime(t *testing.T) {
	const bound = 2 * time.Minute
	const n = 1000 // as many images as are read
	body, snapshot := manyContainers(n), manyRoots()
	done := make(chan int, 1)
	go func() { done <- judged(body, snapshot) }()
	select {
	case images := <-done:
		if images != n {
			t.Errorf("judged %d images", images)
		}
	case <-time.After(bound):
		t.Errorf("%d bytes took over %s", len(body), bound)
	}
}

func TestPlanSharesDemandsBetweenImages(t *testing.T) {
	request := core.Request{Attestations: []core.AttestationRule{
		{ImageReference: "*", Types: make([]verification.AttestationType, 50)}, {ImageReference: "*/other:*", Types: make([]verification.AttestationType, 50)},
	}}
	const n = 20000
	for i := range n {
		at := image.Pointer("/x").Index(i)
		request.Images = append(request.Images, core.Image{Pointer: at, Ref: image.Reference{Registry: "ghcr.io", Repository: fmt.Sprint("app", i), Tag: "v1"}})
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	plan, err := core.NewPlan(request, everything(), "default")
	runtime.ReadMemStats(&after)
	if err != nil || len(plan.Tasks) != n || len(plan.Tasks[n-1].Attestations) != 50 {
		t.Fatalf("%d tasks, %v", len(plan.Tasks), err)
	}
	if each := (after.TotalAlloc - before.TotalAlloc) / n; each > 4000 { // the demands alone are that
		t.Errorf("%d bytes for each image", each)
	}
}

// TestPlanMatchesPatternsInBoundedTime uses a pattern on which a backtracking matcher does not end.
func TestPlanMatchesPatternsInBoundedTime(t *testing.T) {
	body := fmt.Sprintf(`{"object":{"kind":"Pod","spec":{"containers":[{"image":"ghcr.io/%s:v1"}]}},"imageReferences":["%s:v2"]}`,
		strings.Repeat("a/", 100)+"a", strings.Repeat("*/", 20)+"*")
	done := make(chan int, 1)
	go func() { done <- judged([]byte(body), everything()) }()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Error("one image name takes for ever")
	}
}

func judged(body []byte, snapshot trust.Snapshot) int {
	request, err := core.ParseRequest(body)
	if err != nil {
		return 0
	}
	plan, err := core.NewPlan(request, snapshot, "default")
	if err != nil {
		return 0
	}
	return len(core.Decide(plan, nil, time.Time{}).Results)
}

func BenchmarkParseRequest(b *testing.B) {
	body := manyContainers(1000)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := core.ParseRequest(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPlanAndDecide(b *testing.B) {
	request, err := core.ParseRequest(manyContainers(1000))
	if err != nil {
		b.Fatal(err)
	}
	snapshot := manyRoots()
	for b.Loop() {
		plan, err := core.NewPlan(request, snapshot, "default")
		if err != nil {
			b.Fatal(err)
		}
		core.Decide(plan, nil, time.Time{})
	}
}

// TestFactWeightCountsItsTexts since the weight bounds the cached facts.
func TestFactWeightCountsItsTexts(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	reasoned := &reason.Finding{Reason: long}
	heavy := verification.SignatureFact{Rejected: []reason.Finding{*reasoned}}
	attested := func(candidate verification.AttestationFact) int {
		return verification.Fact{Attestations: []verification.AttestationsFact{{Candidates: []verification.AttestationFact{candidate}}}}.Weight()
	}
	tests := map[string]int{
		"a signer with a long name":             verification.Fact{Signature: verification.SignatureFact{Signer: long}}.Weight(),
		"a long warning":                        verification.Fact{Signature: verification.SignatureFact{Warnings: []string{long}}}.Weight(),
		"a long reason":                         verification.Fact{Signature: heavy}.Weight(),
		"a list that failed with a long reason": verification.Fact{Attestations: []verification.AttestationsFact{{Failure: reasoned}}}.Weight(),
		"a candidate with a long reason":        attested(verification.AttestationFact{Signature: heavy}),
		"a candidate that is not applicable":    attested(verification.AttestationFact{NotApplicable: reasoned}),
		"a candidate that is missing":           attested(verification.AttestationFact{Missing: reasoned}),
		"a candidate without a document":        attested(verification.AttestationFact{Unusable: reasoned}),
		"a long reason of a condition":          attested(verification.AttestationFact{Evaluation: &verification.Evaluation{Finding: reasoned}}),
		"a long warning of an attestation":      attested(verification.AttestationFact{Signature: verification.SignatureFact{Warnings: []string{long}}}),
		"a signature with a long signer":        verification.Answer{Signature: verification.Assessment{Fact: verification.SignatureFact{Signer: long}}}.Weight(),
		"a signature that is rejected":          verification.Answer{Signature: verification.Assessment{Rejected: &reason.Finding{Reason: long}}}.Weight(),
	}
	for sentence, weight := range tests {
		if weight < len(long) || weight > len(long)+1000 {
			t.Errorf("%s: %d bytes", sentence, weight)
		}
	}
}

// TestIdentityDiffersByDemand is equal for equal demands, and short.
func TestIdentityDiffersByDemand(t *testing.T) {
	conditions := func(value string) condition.Conditions {
		return condition.Conditions{All: []condition.Condition{{Key: []byte(`"{{ a }}"`), Operator: "Equals", Value: []byte(value)}}}
	}
	demands := []verification.AttestationType{
		{}, {Name: "a"}, {Name: "a", Select: verification.SelectAny}, {Name: "a", Conditions: conditions("1")}, {Name: "a", Conditions: conditions("2")},
		{Name: "a", Conditions: condition.Conditions{Any: conditions("1").All}}, {Name: "a", Conditions: conditions("{")}, {Name: "a", Conditions: conditions("{{")},
		{Name: "a", Conditions: conditions(`"` + strings.Repeat("x", 1<<20) + `"`)},
	}
	known := map[string]int{}
	for i, demand := range demands {
		identity := demand.Identity()
		if other, found := known[identity]; found || len(identity) > 64 || identity != demand.Identity() {
			t.Errorf("demand %d has the identity %q, which %d has too", i, identity, other)
		}
		known[identity] = i
	}
	parsed, err := core.ParseRequest([]byte(`{"images":{"containers":{"web":{` + imageFields + `}}},"attestations":[{"imageReference":"*","type":[{"name":"a","conditions":{"all":[{` + conditionField + `}]}}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	made := verification.AttestationType{Name: "a", Select: verification.SelectAll, Conditions: condition.Conditions{All: []condition.Condition{{Key: []byte(`"{{ a }}"`), Operator: "Equals", Value: []byte("1")}}}}
	if got := parsed.Attestations[0].Types[0].Identity(); got != made.Identity() {
		t.Errorf("a parsed demand has the identity %s, and the same one that was made %s", got, made.Identity())
	}
}
