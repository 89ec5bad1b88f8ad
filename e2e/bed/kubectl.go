package bed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// tokenLife outlasts any use of a bed: nothing renews the tokens that the parts are given.
const tokenLife = 7 * 24 * time.Hour

// kubectlTime bounds one kubectl call; the longest creates Kyverno's definitions.
const kubectlTime = 3 * time.Minute

// Kubeconfig is the path of the administrator's kubeconfig.
func (b *Bed) Kubeconfig() string { return b.kubeconfigPath("admin") }

func (b *Bed) kubeconfigPath(name string) string { return filepath.Join(b.dir, name+".kubeconfig") }

// WriteKubeconfig writes a kubeconfig for whoever the bearer token says and returns its path.
func (b *Bed) WriteKubeconfig(name, token string) (string, error) {
	type object = map[string]any
	ca, err := os.ReadFile(b.pki.ca)
	if err != nil {
		return "", fmt.Errorf("kubeconfig %s: %w", name, err)
	}
	// JSON is YAML; []byte becomes base64, as the field wants it.
	data, err := json.Marshal(object{
		"apiVersion": "v1", "kind": "Config", "current-context": "bed",
		"clusters": []object{{"name": "bed", "cluster": object{"server": b.URL(), "certificate-authority-data": ca}}},
		"users":    []object{{"name": name, "user": object{"token": token}}},
		"contexts": []object{{"name": "bed", "context": object{"cluster": "bed", "user": name}}},
	})
	if err != nil {
		return "", fmt.Errorf("kubeconfig %s: %w", name, err)
	}
	if err := os.WriteFile(b.kubeconfigPath(name), data, 0o600); err != nil {
		return "", fmt.Errorf("kubeconfig %s: %w", name, err)
	}
	return b.kubeconfigPath(name), nil
}

// WriteServiceAccountKubeconfig writes a kubeconfig with a fresh token of an existing service account.
func (b *Bed) WriteServiceAccountKubeconfig(ctx context.Context, namespace, name string) (string, error) {
	token, err := b.Token(ctx, namespace, name)
	if err != nil {
		return "", err
	}
	return b.WriteKubeconfig(namespace+"-"+name, token)
}

// Token asks the API server for a token of an existing service account. Without audiences it is for the API server.
func (b *Bed) Token(ctx context.Context, namespace, name string, audiences ...string) (string, error) {
	args := []string{"create", "token", name, "--namespace=" + namespace, "--duration=" + tokenLife.String()}
	for _, audience := range audiences {
		args = append(args, "--audience="+audience)
	}
	out, err := b.Kubectl(ctx, "", args...)
	return strings.TrimSpace(out), err
}

// Kubectl runs kubectl as the administrator with stdin as its input and returns what it wrote to stdout. An error holds
// what it wrote to stderr. A later --kubeconfig among args makes it someone else.
func (b *Bed) Kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, kubectlTime)
	defer cancel()
	all := append([]string{"--kubeconfig=" + b.Kubeconfig(), "--cache-dir=" + filepath.Join(b.dir, "kubectl")}, args...)
	cmd := exec.CommandContext(ctx, b.tools.Kubectl, all...)
	stdout, stderr := bytes.Buffer{}, bytes.Buffer{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.WaitDelay = requestTime
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// Apply applies YAML or JSON manifests as the administrator.
func (b *Bed) Apply(ctx context.Context, manifests string) error {
	_, err := b.Kubectl(ctx, manifests, "apply", "--server-side", "-f", "-")
	return err
}
