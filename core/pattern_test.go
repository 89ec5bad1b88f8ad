package core

import (
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

func TestParseRequestBoundsPatterns(t *testing.T) {
	short := strings.TrimSuffix(strings.Repeat(`"*a*a.b/c*:v*",`, 100000), ",")
	long := strings.TrimSuffix(strings.Repeat(`"`+strings.Repeat("*a", 250)+`*",`, 1000), ",")
	image := "ghcr.io/" + strings.Repeat("a/", 100) + "a"
	containers := strings.TrimSuffix(strings.Repeat(`{"image":"`+image+`"},`, 999), ",")
	for sentence, patterns := range map[string]string{"many": short, "long": long, "long ones that are read": strings.TrimSuffix(strings.Repeat(`"`+strings.Repeat("*a", 200)+`*:b*",`, 2), ",")} {
		t.Run(sentence, func(t *testing.T) {
			start := time.Now()
			request, err := ParseRequest([]byte(`{"object":{"spec":{"containers":[` + containers + `]}},"imageReferences":[` + patterns + `]}`))
			if err == nil {
				_, err = NewPlan(request, trust.Snapshot{}, "default")
			}
			if took := time.Since(start); took > 5*time.Second { // some 0.05 s, and without the bounds minutes
				t.Errorf("took %s: %v", took, err)
			}
		})
	}
}
