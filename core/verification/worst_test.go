package verification_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// worst is an image with as many attestations of strangers as are looked at, each with as many signatures as are tried.
func worst(t testing.TB) (*registry, verification.Task) {
	r := newRegistry()
	image := r.push("v1", "image")
	r.sign(image, "s1", "acme")
	for i := range 200 {
		manifest, _ := r.attach(image, typeSBOM, fmt.Sprint("sbom ", i), "application/json")
		for j := range 40 {
			r.sign(manifest, fmt.Sprint("s", i, " ", j), "mallory")
		}
	}
	task := taskFor(t, repository+":v1", typeSBOM)
	task.Limits.MaxReferrers = 200
	return r, task
}

// BenchmarkWorstCourse is what deciding what to look up next costs in a whole course, with one demand and with as many of
// the same type as a request may have.
func BenchmarkWorstCourse(b *testing.B) {
	for _, demands := range []int{1, 100} {
		b.Run(fmt.Sprint(demands), func(b *testing.B) {
			r, task := worst(b)
			task.Attestations = slices.Repeat(task.Attestations, demands)
			for b.Loop() {
				r.rounds, r.asked, r.deciding = 0, nil, 0
				r.verify(b, task)
			}
			b.ReportMetric(float64(r.rounds), "rounds")
			b.ReportMetric(float64(len(r.asked)), "lookups")
			b.ReportMetric(float64(r.deciding.Microseconds())/1000, "ms-in-Next")
		})
	}
}
