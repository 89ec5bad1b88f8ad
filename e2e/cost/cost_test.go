//go:build e2e

// Package cost measures what the API server waits for an admission of a pod: by each way in of this service, beside Kyverno's own
// image verification on the same images, and beside Kyverno with nothing to do. Run it with make bench-admission; a few
// admissions per way are measured by make e2e too, which checks the counts.
package cost

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
)

var (
	turns   = flag.Int("turns", 1, "how often each way is installed and measured, one after the other")
	samples = flag.Int("samples", 20, "admissions per way and turn of one image that is kept, and of as many images in turn that were admitted before, one by one and as many 8 at once; a quarter of it of uncached images")
	only    = flag.String("ways", "", "regular expression of the ways to measure; empty for all")
	delay   = flag.Duration("registryDelay", 0, "what each registry request takes longer")
	tokens  = flag.Bool("registryTokens", true, "the registry wants bearer tokens, as Docker Hub, ghcr.io and those of clouds do")
	fields  = flag.Bool("fields", false, "the pods have environment variables, probes, mounts and volumes, as those of clusters do")
	profile = flag.String("profiles", "", "folder for CPU profiles of Kyverno and of the API server by each way, taken while 8 at once are admitted; empty for none")
)

const parallel = 8 // admissions at once

// shared is set once, before the tests.
var shared *fixture.Fixture

func TestMain(m *testing.M) {
	flag.Parse()
	options := fixture.Options{Replicas: 1, Credentials: *tokens, KyvernoArgs: []string{"--omitEvents=PolicyApplied,PolicySkipped", "--disableMetrics=false", "--otelConfig=prometheus"}} // as in Kyverno's own manifest
	if *profile != "" {
		options.KyvernoArgs = append(options.KyvernoArgs, "--profile", "--profileAddress="+profileHost, "--profilePort="+profilePort)
	}
	os.Exit(fixture.Main(m, options, func(fx *fixture.Fixture) { shared = fx }))
}

// TestAdmissionCost installs one way after the other, several times and each time in another order, so that what else the
// machine does meets all of them. With enough admissions the policies of the samples have to be ahead of Kyverno's own verification in every figure.
func TestAdmissionCost(t *testing.T) {
	shared.TwoTenants(t)
	client, err := newClient(shared)
	if err != nil {
		t.Fatal(err)
	}
	if *delay > 0 {
		shared.Registry.SetFault(registrytest.Delay(*delay))
	}
	client.known = client.createAll(t, "known", *samples)
	measured := selectedWays(t)
	// Kyverno's own keeps 17 images at most, so no others come between before all turns with one that is kept are over. That one is another to it
	// in each turn, as the policy is: it is kept in the first 16 turns.
	for images := range kinds {
		for turn := range *turns {
			for i := range measured {
				way := &measured[(i+turn)%len(measured)]
				if images != kept && (!way.verifies || way.pinned) {
					continue
				}
				if !t.Run(fmt.Sprintf("%s/%s/%d", way.name, images, turn), func(t *testing.T) { way.measure(t, client, images, turn) }) {
					return
				}
			}
		}
	}
	t.Logf("what the API server waits\n%s\nwhat an admission asks the registry for\n%s\nours as a part of Kyverno's own, and the median of the turns\n%s", table(measured), requestTable(measured), ratioTable(measured))
	for _, way := range measured {
		way.checkCounts(t)
		for _, peer := range measured {
			if enough := *turns**samples >= 200; enough && way.shipped && peer.peer() {
				way.checkAhead(t, peer)
			}
		}
	}
}
