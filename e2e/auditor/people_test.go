//go:build e2e

package auditor

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
)

// people are service accounts in the namespace of TestADenialIsExplained, and the right of the console to review their tokens.
const people = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: asker, namespace: team-p}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: looker, namespace: team-p}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: stranger, namespace: team-p}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: console-reviews}
rules:
- {apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: console-reviews}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: console-reviews}
subjects: [{kind: ServiceAccount, name: kyverno-notation-venafi-certmanager, namespace: kyverno-notation-venafi}]
`

const (
	looker      = "system:serviceaccount:team-p:looker"
	ofDecisions = "kyverno-notation-venafi-decisions"
	ofConsole   = "kyverno-notation-venafi-console"
	ofCallers   = "kyverno-svc.kyverno.io"
)

// TestADenialIsExplained goes the way of somebody whose pods do not come up: from the Event on the ReplicaSet by the id of the decision
// to the certificate that is not trusted, on the command line and in the console; and holds that nobody else goes it.
func TestADenialIsExplained(t *testing.T) {
	fx := shared
	fx.team(t, "team-p")
	image, digest := fx.push(t, "explained")
	fx.deploy(t, "team-p", "shop", image, digest)
	fx.apply(t, people)
	fx.kubectl(t, "apply", "-f", "../../config/console/component/rbac.yaml")
	t.Cleanup(func() {
		_, _ = fx.bed.Kubectl(context.Background(), "", "delete", "clusterrole,clusterrolebinding", "console-reviews", "kyverno-notation-venafi-console", "--ignore-not-found")
	})
	pages, err := deployment.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	manager := fx.audit(t, "--consoleAddress", pages, "--consoleUsers", looker)
	service := fx.serve(t)
	fx.distrust(t, "team-p")
	fx.within(t, time.Minute, bed.PolicyReports, "team-p", "shop", fails)
	id := fx.denied(t, service, image)

	t.Run("kubectl describe says why there are no pods", func(t *testing.T) {
		err := deployment.Eventually(t.Context(), time.Minute, func() error {
			said := fx.kubectl(t, "describe", "replicaset", "shop-1", "-n", "team-p")
			if !strings.Contains(said, "SignatureUntrusted") || !strings.Contains(said, id) {
				return fmt.Errorf("no decision %s in %s", id, said)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("who may read decisions", func(t *testing.T) { fx.readers(t, service, id) })
	t.Run("why", func(t *testing.T) { fx.why(t, service, id, image) })
	t.Run("the certificate manager's console", func(t *testing.T) { fx.managersConsole(t, manager, "http://"+pages, image) })
	t.Run("the console of decisions", func(t *testing.T) { fx.decisionsConsole(t, service, id) })
}

// serve starts a replica of the service, whose serving certificate a certificate manager makes.
func (fx *fixture) serve(t *testing.T) *deployment.Process {
	t.Helper()
	p := deployment.Kept(t)(fx.deployment.Serve(t.Context(), "--pluginDir", t.TempDir(), "--allowLoopback", "--insecureRegistries", fx.registry.Host(),
		"--defaultTrustPolicy", "tp-team-p", "--allowedUsers", "system:serviceaccount:team-p:asker", "--decisionUsers", looker, "--denialEvents"))
	if err := deployment.Eventually(t.Context(), time.Minute, func() error { return p.Ready(t.Context()) }); err != nil {
		t.Fatal(err)
	}
	return p
}

// denied asks about a pod of the ReplicaSet as Kyverno does until it is denied, and gives the id of the decision.
func (fx *fixture) denied(t *testing.T, service *deployment.Process, image string) (id string) {
	t.Helper()
	var pod map[string]any
	if err := json.Unmarshal([]byte(fx.kubectl(t, "get", "pod", "shop-1-a", "-n", "team-p", "-o", "json")), &pod); err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"object": pod, "trustPolicy": "tp-team-p"})
	if err != nil {
		t.Fatal(err)
	}
	bearer := "Bearer " + fx.token(t, "asker", ofCallers)
	err = deployment.Eventually(t.Context(), time.Minute, func() error {
		status, text, err := service.Check(t.Context(), bearer, body)
		match := regexp.MustCompile(`decision ([0-9A-HJKMNP-TV-Z]{26})`).FindStringSubmatch(text)
		if err != nil || status != http.StatusNotAcceptable || match == nil || !strings.Contains(text, image) {
			return fmt.Errorf("%d %s %w", status, text, err)
		}
		id = match[1]
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (fx *fixture) token(t *testing.T, account, audience string) string {
	t.Helper()
	token, err := fx.bed.Token(t.Context(), "team-p", account, audience)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// get asks with a bearer token, "" for none.
func get(t *testing.T, url, token string) (int, string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	status, text, err := deployment.Do(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	return status, text
}

// readers holds who may read GET /decisions, by reviews of the API server.
func (fx *fixture) readers(t *testing.T, service *deployment.Process, id string) {
	for sentence, tt := range map[string]struct {
		token string
		want  int
	}{
		"nobody":                           {"", http.StatusUnauthorized},
		"a token that is none":             {"abc", http.StatusUnauthorized},
		"a token for another audience":     {fx.token(t, "looker", ofConsole), http.StatusUnauthorized},
		"a user who is not named":          {fx.token(t, "stranger", ofDecisions), http.StatusForbidden},
		"who may ask for verifications":    {fx.token(t, "asker", ofCallers), http.StatusUnauthorized},
		"who may ask, for that audience":   {fx.token(t, "asker", ofDecisions), http.StatusForbidden},
		"a user who is named, with rights": {fx.token(t, "looker", ofDecisions), http.StatusOK},
	} {
		for _, path := range []string{"/decisions", "/decisions/" + id} {
			status, text := get(t, service.URL+path, tt.token)
			if status != tt.want || (status == http.StatusOK) != strings.Contains(text, id) {
				t.Errorf("%s gets of %s %d %.200s, want %d", sentence, path, status, text, tt.want)
			}
		}
	}
	_, text := get(t, service.URL+"/decisions/"+id, fx.token(t, "looker", ofDecisions))
	if r, err := record.Decode([]byte(text)); err != nil || r.Caller != "system:serviceaccount:team-p:asker" || r.Object.Name != "shop-1-a" || r.Outcome != "denied" {
		t.Errorf("the record is of %q about %+v, %s: %v", r.Caller, r.Object, r.Outcome, err)
	}
}

// command is one of the service's, with the rights of an administrator.
func (fx *fixture) command(ctx context.Context, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, filepath.Join(fx.bed.Dir(), "kyverno-notation-venafi"), args...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return command
}

// tokenFile is a file with the token of who may read decisions.
func (fx *fixture) tokenFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(fx.token(t, "looker", ofDecisions)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// why asks about the decision and about the pod, which both end at the signer's certificate and at the trust store.
func (fx *fixture) why(t *testing.T, service *deployment.Process, id, image string) {
	cluster := []string{"--kubeconfig", fx.bed.Kubeconfig(), "--allowLoopback", "--insecureRegistries", fx.registry.Host(), "--pluginDir", t.TempDir()}
	for _, args := range [][]string{
		{"why", id, "--service", service.URL, "--tokenFile", fx.tokenFile(t)},
		append([]string{"why", "pod/shop-1-a", "-n", "team-p", "--trustPolicy", "tp-team-p"}, cluster...),
	} {
		output, err := fx.command(t.Context(), args...).CombinedOutput()
		t.Logf("why %s\n%s", args[1], output)
		for _, want := range []string{image, "SignatureUntrusted", `trust policy "tp-team-p"`, "trust stores ca:other", "certificate 0: ", "issued by ", "check of "} {
			if !strings.Contains(string(output), want) {
				t.Errorf("why %s does not say %s", args[1], want)
			}
		}
		if err == nil || err.Error() != "exit status 1" {
			t.Errorf("why %s: %v, of a denial", args[1], err)
		}
	}
	if output, err := fx.command(t.Context(), append([]string{"why", "pod/absent", "-n", "team-p", "--trustPolicy", "tp-team-p"}, cluster...)...).CombinedOutput(); err == nil || err.Error() != "exit status 2" {
		t.Errorf("of a pod that is not there: %v %s", err, output)
	}
}

// managersConsole shows trust and the auditor's verdicts to who is named, and to nobody else.
func (fx *fixture) managersConsole(t *testing.T, manager *deployment.Process, url, image string) {
	for sentence, tt := range map[string]struct {
		token string
		want  int
	}{
		"nobody": {"", http.StatusUnauthorized}, "a user who is not named": {fx.token(t, "stranger", ofConsole), http.StatusForbidden},
		"a token for another audience": {fx.token(t, "looker", ofDecisions), http.StatusUnauthorized},
	} {
		if status, text := get(t, url, tt.token); status != tt.want || strings.Contains(text, "tp-team-p") {
			t.Errorf("%s: %d %.200s", sentence, status, text)
		}
	}
	token := fx.token(t, "looker", ofConsole)
	for path, wanted := range map[string][]string{
		"/": {"<html"}, "/policies": {"tp-team-p", "ca:other"}, "/stores": {"ca:other", "days"}, "/running": {"shop", image, "SignatureUntrusted"}, "/decisions": {"<html"},
	} {
		err := deployment.Eventually(t.Context(), time.Minute, func() error { // what a page shows may be some seconds old
			status, text := get(t, url+path, token)
			for _, want := range wanted {
				if status != http.StatusOK || !strings.Contains(text, want) {
					return fmt.Errorf("%s: %d, without %s:\n%s", path, status, want, text)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if strings.Contains(manager.Logged(), "is forbidden: User") {
		t.Errorf("it was refused something:\n%s", manager.Logged())
	}
}

// decisionsConsole runs the command console, which shows the decisions of a service.
func (fx *fixture) decisionsConsole(t *testing.T, service *deployment.Process, id string) {
	address, err := deployment.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	command := fx.command(ctx, "console", "--consoleAddress", address, "--kubeconfig", fx.bed.Kubeconfig(), "--service", service.URL, "--tokenFile", fx.tokenFile(t))
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = command.Wait()
	})
	err = deployment.Eventually(t.Context(), time.Minute, func() error {
		connection, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		return connection.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, wanted := range map[string][]string{"/decisions": {id, "denied"}, "/decisions/" + id: {"SignatureUntrusted", "certificate", "has none of the chain"}} {
		status, text := get(t, "http://"+address+path, "")
		for _, want := range wanted {
			if status != http.StatusOK || !strings.Contains(text, want) {
				t.Errorf("%s: %d, without %s:\n%s", path, status, want, text)
			}
		}
	}
}
