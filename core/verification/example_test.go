package verification_test

import (
	"fmt"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// The shell makes the lookups of each step, here with a registry that has the tag and no signature.
func ExampleNext() {
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	ref, _ := image.Parse("ghcr.io/acme/app:v1")
	task := verification.Task{Ref: ref, Policy: "acme", Limits: verification.Limits{MaxReferrers: 100, MaxSignatureAttempts: 30}}
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	evidence := verification.Evidence{}
	for {
		step := verification.Next(task, evidence, now)
		if step.Outcome != nil {
			fmt.Println(verification.Check(task, step.Outcome.Fact, now).Code)
			return
		}
		for _, lookup := range step.Lookups { // the shell makes them in parallel
			fmt.Println(lookup.Kind, lookup.Repository, lookup.Subject)
			var answer verification.Answer
			if lookup.Kind == verification.Resolve {
				answer.Descriptor = verification.Descriptor{MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: digest, Size: 482}
			}
			evidence[lookup] = answer
		}
	}
	// Output:
	// resolution ghcr.io/acme/app v1
	// list ghcr.io/acme/app sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
	// NoSignature
}
