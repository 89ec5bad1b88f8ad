//go:build e2e

// Package admission shows the service at work with a real API server and a real Kyverno; see package bed for how they
// run without containers. Run it with make e2e.
package admission

import (
	"os"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
)

// environment is what the tests share.
type environment struct {
	*fixture.Fixture
	way string // in which Kyverno asks, in bothWays
}

// shared is set once, before the tests.
var shared environment

func TestMain(m *testing.M) {
	os.Exit(fixture.Main(m, fixture.Options{Replicas: 2}, func(fx *fixture.Fixture) { shared = environment{Fixture: fx} }))
}

// bothWays runs a test under the sample policies of each way in which Kyverno asks the service.
func bothWays(t *testing.T, test func(*testing.T, environment)) {
	t.Helper()
	shared.TwoTenants(t)
	for _, way := range fixture.Ways() {
		t.Run(way.Name, func(t *testing.T) {
			shared.Install(t, fixture.Policies{Samples: way.Samples})
			test(t, environment{Fixture: shared.Fixture, way: way.Name})
		})
	}
}

// replica is a process of the service, as its own service account.
type replica = deployment.Process
