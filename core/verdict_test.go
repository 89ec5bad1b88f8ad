package core_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// failing is a verdict on images, each with a reason of its own making.
func failing(n int, body string, text func(i int) string) core.Verdict {
	plan := core.Plan{}
	var facts []verification.Fact
	for i := range n {
		ref := image.Reference{Registry: "ghcr.io", Repository: "acme/app", Tag: "v1"}
		container := core.Image{Kind: "container", Name: fmt.Sprint("c", i), Pointer: image.Pointer("/spec/containers").Index(i).Field("image"), Written: body, Ref: ref}
		plan.Images = append(plan.Images, core.PlannedImage{Image: container, Task: i})
		plan.Tasks = append(plan.Tasks, verification.Task{Ref: ref})
		facts = append(facts, verification.Fact{Failure: &reason.Finding{Code: reason.NoSignature, Reason: text(i)}})
	}
	return core.Decide(plan, facts, time.Time{})
}

func TestVerdictStatesASharedReasonOnce(t *testing.T) {
	tests := map[string]struct {
		images int
		want   string
	}{
		"one":    {1, ""},
		"two":    {2, " (and 1 more image: c1)"},
		"eleven": {11, " (and 10 more images: c1, c2, c3, c4, c5, c6, c7, c8, c9, c10)"},
		"many":   {42, " (and 41 more images: c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, ...)"},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			verdict := failing(tt.images, "ghcr.io/acme/app:v1", func(int) string { return "no signature" })
			if want := "failed to verify container c0: failed to verify image ghcr.io/acme/app:v1: no signature" + tt.want; verdict.Message != want {
				t.Errorf("got  %s\nwant %s", verdict.Message, want)
			}
			for i, r := range verdict.Results {
				if r.Name != fmt.Sprint("c", i) || r.Path == "" || r.Image == "" || r.Code != reason.NoSignature || r.Reason != "no signature" {
					t.Errorf("result %d is %+v", i, r)
				}
			}
		})
	}
}

func TestVerdictBoundsItsMessage(t *testing.T) {
	verdict := failing(1000, "ghcr.io/acme/app:v1", func(i int) string { return fmt.Sprint(i, strings.Repeat(" reason", 1000)) })
	lines := strings.Split(verdict.Message, "\n")
	if want := fmt.Sprintf("and %d more images", 1000-len(lines)+1); len(verdict.Message) > 33<<10 || len(lines) < 10 || lines[len(lines)-1] != want {
		t.Errorf("%d bytes in %d lines, the last is %q; want %q", len(verdict.Message), len(lines), lines[len(lines)-1], want)
	}
}

func TestVerdictBoundsItsResults(t *testing.T) {
	written := "ghcr.io/acme/" + strings.Repeat("a", 240) + ":" + strings.Repeat("t", 128)
	plan, request := core.Plan{}, 0
	var facts []verification.Fact
	for i := range 1000 {
		ref, err := image.Parse(written)
		if err != nil {
			t.Fatal(err)
		}
		container := core.Image{Kind: "container", Name: strings.Repeat("n", 255), Pointer: image.Pointer("/spec/containers").Index(i).Field("image"), Written: written, Ref: ref}
		request += len(written) + len(container.Name) + len(`{"name":"","image":""},`)
		plan.Images = append(plan.Images, core.PlannedImage{Image: container, Task: i})
		plan.Tasks = append(plan.Tasks, verification.Task{Ref: ref, Statement: trust.Statement{Level: "audit"}})
		fact := verification.Fact{Digest: "sha256:" + strings.Repeat("a", 64), Warnings: []string{fmt.Sprint(i, strings.Repeat("l", 100000)), "more", "more"}}
		fact.Signature = verification.SignatureFact{Verified: true, Signer: strings.Repeat("s", 100000)}
		if i%2 == 0 {
			fact.Signature = verification.SignatureFact{Rejected: []reason.Finding{{Code: reason.SignatureInvalid, Reason: fmt.Sprint(i, strings.Repeat("r", 100000))}}}
		}
		facts = append(facts, fact)
	}
	text, err := json.Marshal(core.Decide(plan, facts, time.Time{}))
	if bound := 3*request + 2<<20; err != nil || len(text) > bound {
		t.Errorf("%d bytes, want at most %d: %v", len(text), bound, err)
	}
	if len(facts[1].Warnings[0]) < 100000 {
		t.Error("the facts, which are kept, were changed")
	}
}

func TestVerdictOfNoResultsDenies(t *testing.T) {
	if verdict := core.Decide(core.Plan{}, nil, time.Time{}); verdict.Verified || verdict.Class == reason.Admitted || verdict.Results == nil || len(core.Patches(verdict)) > 0 {
		t.Errorf("%+v", verdict)
	}
}

func TestPinnedImagesKeepTheirSpelling(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for _, name := range []string{
		"busybox", "busybox:1.36", "library/busybox", "docker.io/busybox", "docker.io/library/busybox:1.36", "index.docker.io/library/busybox", "registry-1.docker.io/library/busybox",
		"acme/app", "ghcr.io/acme/app", "ghcr.io/acme/app:v1", "ghcr.io:443/acme/app:v1", "127.0.0.1:5000/acme/app", "[::1]:5000/acme/app:v1",
	} {
		t.Run(name, func(t *testing.T) {
			written := name + "@" + digest
			ref, err := image.Parse(written)
			if err != nil {
				t.Fatal(err)
			}
			container := core.Image{Kind: "container", Name: "c", Pointer: image.Pointer("/spec/containers/0/image"), Written: written, Ref: ref}
			plan := core.Plan{Images: []core.PlannedImage{{Image: container}}, Tasks: []verification.Task{{Ref: ref, Statement: trust.Statement{Level: "strict"}}}}
			verdict := core.Decide(plan, []verification.Fact{{Digest: digest, Signature: verification.SignatureFact{Verified: true}}}, time.Time{})
			if result := verdict.Results[0]; !verdict.Verified || result.Image != written || result.Op != "" || result.Digest != digest {
				t.Errorf("%+v", result)
			}
			if patches := core.Patches(verdict); len(patches) != 0 {
				t.Errorf("%+v", patches)
			}
		})
	}
}
