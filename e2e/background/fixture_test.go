//go:build e2e

// Package background shows what a person sees while the verification of images is audited, warned about and enforced, and how
// Kyverno's reports controller asks the service about what runs. Run it with make e2e.
package background

import (
	"os"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
)

// shared is set once, before the tests.
var shared *fixture.Fixture

func TestMain(m *testing.M) {
	options := fixture.Options{Replicas: 1, Reports: true, ReportsArgs: []string{"--backgroundScanInterval=10s"}}
	os.Exit(fixture.Main(m, options, func(fx *fixture.Fixture) { shared = fx }))
}
