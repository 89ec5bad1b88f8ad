//go:build e2e

// Package scale measures the command audit on a cluster of many pods: memory, requests to the API server and to the registry, and
// time. Run it with make bench-audit; a few hundred pods are audited by make e2e too. Both check the counts.
package scale

import (
	"flag"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

var (
	pods       = flag.Int("pods", 600, "pods in the end; a fifth of them is audited before")
	images     = flag.Int("images", 60, "images that are written in them, each in a repository of its own")
	namespaces = flag.Int("namespaces", 12, "namespaces that the pods are in")
	contents   = flag.Int("contents", 20, "distinct images in the registry, which serves each under several names")
)

const pageSize = 500 // objects in a list, as audit asks for them

// TestAuditAtScale audits a fifth of the pods, with every image in use already, and then all of them. What the audit asks for and keeps
// goes by the images, but for the pages in which pods are listed.
func TestAuditAtScale(t *testing.T) {
	w := startWorld(t)
	small := w.measure(t, *pods/5)
	all := w.measure(t, *pods)
	t.Log("\n" + table(small, all))

	for _, m := range []measured{small, all} {
		want := map[string]int{
			"pods": pages(m.pods), "replicasets": pages(*images), "namespaces": pages(w.allNamespaces(t)), "trustpolicies": 1, "truststores": 1,
		}
		for resource, n := range want {
			if m.apiRequests[resource] != n {
				t.Errorf("of %d pods: %d requests for %s, want %d", m.pods, m.apiRequests[resource], resource, n)
			}
		}
		if len(m.apiRequests) != len(want) {
			t.Errorf("of %d pods: requests %v", m.pods, m.apiRequests)
		}
		if m.registryRequests != requestsPerImage**images {
			t.Errorf("of %d pods: %d requests to the registry, want %d for each of %d images", m.pods, m.registryRequests, requestsPerImage, *images)
		}
		if m.verified != *images {
			t.Errorf("of %d pods: %d images of workloads are verified, of %d", m.pods, m.verified, *images)
		}
	}
	if grown := all.peak - small.peak; *pods >= 10_000 && grown > small.peak/2 {
		t.Errorf("with five times the pods the audit takes %d MB, and took %d MB", all.peak>>20, small.peak>>20)
	}
}

// requestsPerImage are those for a tag with one signature, whose digest runs: the tag's digest, the referrers, the signature's manifest
// and its envelope.
const requestsPerImage = 4

func pages(objects int) int { return int(math.Ceil(float64(objects) / pageSize)) }

// measured is what one audit took.
type measured struct {
	pods, verified   int
	peak             int64          // resident memory at most, bytes
	apiRequests      map[string]int // by resource
	registryRequests int
	took, processor  time.Duration
}

func table(audits ...measured) string {
	var text strings.Builder
	text.WriteString("| pods | images | namespaces | peak memory | API requests: pods, ReplicaSets, others | registry requests | time | processor time |\n|---|---|---|---|---|---|---|---|\n")
	for _, m := range audits {
		others := 0
		for resource, n := range m.apiRequests {
			if resource != "pods" && resource != "replicasets" {
				others += n
			}
		}
		fmt.Fprintf(&text, "| %d | %d | %d | %d MB | %d, %d, %d | %d | %.1f s | %.1f s |\n", m.pods, *images, *namespaces, m.peak>>20,
			m.apiRequests["pods"], m.apiRequests["replicasets"], others, m.registryRequests, m.took.Seconds(), m.processor.Seconds())
	}
	return text.String()
}
