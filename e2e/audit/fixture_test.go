//go:build e2e

// Package audit tests the command audit with a real API server, with the permissions that its documentation names, and holds
// what it says of a proposed trust against what a real Kyverno then admits.
package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
)

var shared *fixture.Fixture

func TestMain(m *testing.M) {
	os.Exit(fixture.Main(m, fixture.Options{Replicas: 1}, func(fx *fixture.Fixture) { shared = fx }))
}

// The account that audits.
const (
	auditor     = "auditor"
	auditorRole = "kyverno-notation-venafi-audit"
)

// auditorKubeconfig gives an account the rights of the sample ClusterRole, and no others.
func auditorKubeconfig(t *testing.T, fx *fixture.Fixture) string {
	t.Helper()
	role, err := os.ReadFile(filepath.Join(fixture.ConfigDir, "samples", "audit-clusterrole.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	fx.Apply(t, string(role)+fmt.Sprintf(`---
apiVersion: v1
kind: ServiceAccount
metadata: {name: %[1]s, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %[2]s}
subjects: [{kind: ServiceAccount, name: %[1]s, namespace: default}]
`, auditor, auditorRole))
	path, err := fx.Bed.WriteServiceAccountKubeconfig(t.Context(), "default", auditor)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// result is audit's JSON.
type result struct {
	Outcome  string
	Images   int
	Findings []finding
	Flips    []finding
	Expiries []finding
	Anchors  []struct {
		Store, Subject string
		Images, Pods   int
	} `json:"trustStoreCertificates"`
}

// finding is a line of any of its lists.
type finding struct {
	Namespace, Kind, Name, Container, Image, Running string
	Pods                                             int
	State, Change, Cause, Code, Reason, TrustPolicy  string
}

// audit runs the command and gives its exit status.
func audit(t *testing.T, fx *fixture.Fixture, kubeconfig string, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(fx.Dir, "kyverno-notation-venafi"), append([]string{
		"audit", "--kubeconfig", kubeconfig, "--allowLoopback",
		"--trustPolicy", "tp-{{ namespace }}", "--exceptNamespaces", bed.KyvernoNamespace,
	}, args...)...)
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	command.Env = append(os.Environ(), fx.Deployment.Env...)
	err := command.Run()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), command.ProcessState.ExitCode()
}

// audited runs the command and reads its JSON.
func audited(t *testing.T, fx *fixture.Fixture, kubeconfig string, exit int, args ...string) result {
	t.Helper()
	stdout, stderr, got := audit(t, fx, kubeconfig, append(args, "-o", "json")...)
	if got != exit {
		t.Fatalf("audit %q exits with %d, want %d\n%s%s", args, got, exit, stdout, stderr)
	}
	var r result
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v\n%s%s", err, stdout, stderr)
	}
	return r
}

// of gives the finding on a workload.
func of(t *testing.T, findings []finding, namespace, workload string) finding {
	t.Helper()
	for _, f := range findings {
		if f.Namespace == namespace && f.Kind+"/"+f.Name == workload {
			return f
		}
	}
	t.Fatalf("nothing is said of %s in %s: %+v", workload, namespace, findings)
	return finding{}
}

// owned makes an object and gives the reference by which others are owned by it.
func owned(t *testing.T, fx *fixture.Fixture, namespace, name, manifest string) string {
	t.Helper()
	fx.Apply(t, manifest)
	reference := fx.Kubectl(t, "", "get", name, "-n", namespace, "-o", "jsonpath={.apiVersion} {.kind} {.metadata.name} {.metadata.uid}")
	parts := strings.Fields(reference)
	if len(parts) != 4 {
		t.Fatalf("reference %q", reference)
	}
	return fmt.Sprintf("ownerReferences: [{apiVersion: %s, kind: %s, name: %s, uid: %s, controller: true}]", parts[0], parts[1], parts[2], parts[3])
}

// pod makes a pod whose container app runs a digest; "" where it does not run yet.
func pod(t *testing.T, fx *fixture.Fixture, namespace, name, owner, image, digest, phase string) {
	t.Helper()
	metadata := fmt.Sprintf("name: %s, namespace: %s", name, namespace)
	if owner != "" {
		metadata += ", " + owner
	}
	fx.Apply(t, fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {%s}\nspec:\n  containers:\n  - {name: app, image: %q}\n", metadata, image))
	status := fmt.Sprintf(`{"status":{"phase":%q}}`, phase)
	if digest != "" {
		repository, _, _ := strings.Cut(strings.TrimPrefix(image, fx.Registry.Host()), ":")
		status = fmt.Sprintf(`{"status":{"phase":%q,"containerStatuses":[{"name":"app","image":%q,"imageID":%q,"ready":true,"restartCount":0,"state":{"running":{}}}]}}`,
			phase, image, fx.Registry.Host()+repository+"@"+digest)
	}
	fx.Kubectl(t, "", "patch", "pod", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", status)
}
