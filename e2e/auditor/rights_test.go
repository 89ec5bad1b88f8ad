//go:build e2e

package auditor

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	rbac "k8s.io/api/rbac/v1"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
)

// right is one that a role grants.
type right = deployment.Permission

// rights are all that the component grants.
func rights(t *testing.T) []right {
	t.Helper()
	all, err := deployment.Granted("../../config/auditor/component/rbac.yaml", "kyverno-notation-venafi-auditor")
	if err != nil || len(all) == 0 {
		t.Fatalf("%d rights, %v", len(all), err)
	}
	return all
}

// take replaces the role of a right, and waits until the API server goes by it.
func (fx *fixture) take(t *testing.T, r right, role *rbac.ClusterRole, granted bool) {
	t.Helper()
	text, err := json.Marshal(role)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fx.bed.Kubectl(t.Context(), string(text), "replace", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	question := strings.TrimSuffix(r.Resource+"."+r.Group, ".")
	if r.Name != "" {
		question += "/" + r.Name
	}
	err = deployment.Eventually(t.Context(), deployment.Patience, func() error {
		out, _ := fx.bed.Kubectl(t.Context(), "", "auth", "can-i", r.Verb, question, "--namespace="+deployment.Namespace,
			"--as=system:serviceaccount:"+deployment.Namespace+":"+deployment.ManagerAccount)
		if out = strings.TrimSpace(out); (out == "yes") != granted || out == "" {
			return fmt.Errorf("%s: %q, want granted %t", r, out, granted)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// told waits until the process logs that it was refused a right.
func told(t *testing.T, p *deployment.Process, r right) {
	t.Helper()
	said := []string{fmt.Sprintf(`cannot %s resource \"%s\"`, r.Verb, r.Resource), r.Name}
	err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
		for line := range strings.Lines(p.Logged()) {
			if !slices.ContainsFunc(said, func(part string) bool { return !strings.Contains(line, part) }) {
				return nil
			}
		}
		return fmt.Errorf("no line has all of %q", said)
	})
	if err != nil {
		t.Errorf("%v\n%s", err, p.Logged())
	}
}

// lasts is how long the effect of a missing right must last. With all rights everything works in less time.
const lasts = 4 * time.Second

// TestEachRightIsNeeded takes away each right of the component in turn. The API server does not stream lists, as before Kubernetes
// 1.34: there a watch needs the right to list too.
func TestEachRightIsNeeded(t *testing.T) {
	fx, err := start(t.Context(), "--feature-gates=WatchList=false")
	defer fx.close()
	if err != nil {
		t.Fatal(err)
	}
	fx.team(t, "team-r")
	image, digest := fx.push(t, "rights")
	for _, resource := range []string{bed.PolicyReports, bed.OpenReports} {
		if resource == bed.OpenReports {
			if err := fx.bed.Define(t.Context(), resource); err != nil {
				t.Fatal(err)
			}
		}
		reported, group, _ := strings.Cut(resource, ".")
		s := setting{fx, resource, image, digest}
		t.Run(group, func(t *testing.T) {
			t.Run("with all rights everything works", func(t *testing.T) {
				p := s.begin(t)
				for name, works := range s.effects() {
					if err := works(t, p, deployment.Patience); err != nil {
						t.Errorf("%s: %v\n%s", name, err, p.Logged())
					}
				}
				if err := p.End(); err != nil || strings.Contains(p.Logged(), "is forbidden: User") {
					t.Errorf("it was refused something: %v\n%s", err, p.Logged())
				}
			})
			for _, r := range rights(t) {
				if strings.HasSuffix(r.Resource, "reports") && r.Resource != reported || group == "openreports.io" && r.Group != group {
					continue // the other group's, or what was shown with the other
				}
				t.Run(r.String(), func(t *testing.T) { s.without(t, r) })
			}
		})
	}
}

// setting is a cluster in which one API group is used for reports.
type setting struct {
	*fixture
	resource      string
	image, digest string
}

// begin starts an auditor with a pod that runs a good image, and no reports.
func (s setting) begin(t *testing.T) *deployment.Process {
	t.Helper()
	s.kubectl(t, "delete", "pods", "--all", "-n", "team-r", "--force", "--grace-period=0")
	s.kubectl(t, "delete", s.resource, "--all", "-n", "team-r")
	s.trust(t, "team-r")
	s.pod(t, "team-r", "web", "", s.image, s.digest)
	return s.audit(t)
}

// effects are what works with all rights, by what is done.
func (s setting) effects() map[string]func(*testing.T, *deployment.Process, time.Duration) error {
	said := func(limit time.Duration, says func(report) bool) func(t *testing.T) error {
		return func(t *testing.T) error {
			return deployment.Eventually(t.Context(), limit, func() error {
				all, err := s.reports(t.Context(), s.resource, "team-r")
				r, exists := all["web"]
				if err == nil && (!exists || !says(r)) {
					err = errors.New("the report does not say so")
				}
				return err
			})
		}
	}
	name := func(t *testing.T) string { return "notation-" + s.uid(t, "team-r", "pod/web") }
	return map[string]func(*testing.T, *deployment.Process, time.Duration) error{
		"report": func(t *testing.T, _ *deployment.Process, limit time.Duration) error { return said(limit, passes)(t) },
		"update": func(t *testing.T, _ *deployment.Process, limit time.Duration) error {
			if err := said(deployment.Patience, passes)(t); err != nil {
				t.Fatal(err)
			}
			s.distrust(t, "team-r")
			defer s.trust(t, "team-r")
			return said(limit, fails)(t)
		},
		"event": func(t *testing.T, _ *deployment.Process, limit time.Duration) error {
			if err := said(deployment.Patience, passes)(t); err != nil {
				t.Fatal(err)
			}
			s.kubectl(t, "delete", "events.events.k8s.io", "--all", "-n", "team-r")
			s.distrust(t, "team-r")
			defer s.trust(t, "team-r")
			return deployment.Eventually(t.Context(), limit, func() error {
				if len(s.events(t, "team-r", "web")) == 0 {
					return errors.New("there is no Event")
				}
				return nil
			})
		},
		"get": func(t *testing.T, _ *deployment.Process, limit time.Duration) error {
			if err := said(deployment.Patience, passes)(t); err != nil {
				t.Fatal(err)
			}
			s.kubectl(t, "label", s.resource, name(t), "-n", "team-r", "app.kubernetes.io/managed-by-")
			return said(limit, func(r report) bool { return r.Metadata.Labels["app.kubernetes.io/managed-by"] != "" })(t)
		},
		"delete": func(t *testing.T, _ *deployment.Process, limit time.Duration) error {
			s.pod(t, "team-r", "other", "", s.image, s.digest)
			there := func(want bool) func() error {
				return func() error {
					all, err := s.reports(t.Context(), s.resource, "team-r")
					if _, exists := all["other"]; err == nil && exists != want {
						err = fmt.Errorf("the other report: %t", exists)
					}
					return err
				}
			}
			if err := deployment.Eventually(t.Context(), deployment.Patience, there(true)); err != nil {
				t.Fatal(err)
			}
			s.kubectl(t, "delete", "pod", "other", "-n", "team-r", "--force", "--grace-period=0")
			return deployment.Eventually(t.Context(), limit, there(false))
		},
	}
}

// without takes a right away, and expects that what it is for does not work, and that the log names it.
func (s setting) without(t *testing.T, r right) {
	effect := ""
	switch {
	case strings.HasSuffix(r.Resource, "reports"):
		effect = map[string]string{"get": "get", "list": "report", "create": "report", "update": "update", "delete": "delete"}[r.Verb]
	case r.Resource == "events":
		effect = "event"
	case r.Verb == "list" && r.Name == "":
		effect = "report" // nothing is reported before all that runs is known
	}
	s.take(t, r, r.Without(), false)
	defer s.take(t, r, r.Role, true)
	p := s.begin(t)
	if effect != "" && s.effects()[effect](t, p, lasts) == nil {
		t.Errorf("%s works without\n%s", effect, p.Logged())
	}
	told(t, p, r)
	select {
	case <-p.Ended:
		t.Errorf("the process ended:\n%s", p.Logged())
	default:
	}
	if err := p.End(); err != nil {
		t.Error(err)
	}
}
