package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
)

//go:embed manifests/registry.yaml
var registryManifest string

const (
	productName   = "kyverno-notation-venafi"
	productModule = "github.com/nirmata/kyverno-notation-venafi"
	publicImage   = "ghcr.io/nirmata/kyverno-notation-venafi:latest"     // in the manifests
	functionImage = "function.invalid/kyverno-notation-venafi:set-image" // in config/func
)

// signingPlatform is the registry as well.
const signingPlatform = "https://" + RegistryHost

// Ways are the ways of installing the product that the README names.
var Ways = []string{"knative", "func", "plain", "helm", "helm-knative"}

// ownDir is where programs of the product's own module are built.
func (l layout) ownDir() string { return filepath.Join(l.cache, "cluster-own") }

// buildOwn builds a static program of the product's own module.
func (c *Cluster) buildOwn(ctx context.Context, name, pkg string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	path := filepath.Join(c.ownDir(), name)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, productModule+"/"+pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return path, finish(cmd, "build "+name)
}

// InstallProduct installs the product in one of its ways, or from a folder like config/console/plain, as the README says, only the image's
// name changed, and waits until it serves.
func (c *Cluster) InstallProduct(ctx context.Context, way string) error {
	if err := c.applyProduct(ctx, way); err != nil {
		return err
	}
	if way != "plain" && way != "helm" && !strings.HasSuffix(way, "/plain") {
		if _, err := c.Kubectl(ctx, "", "wait", "--for=condition=Ready", "ksvc/"+productName, "--namespace="+productName, "--timeout="+readyTime.String()); err != nil {
			return err
		}
	}
	return c.rollout(ctx, productName)
}

func (c *Cluster) applyProduct(ctx context.Context, way string) error {
	root, err := moduleDir(ctx)
	if err != nil {
		return err
	}
	if strings.HasPrefix(way, "helm") {
		return c.helm(ctx, "install", productName, filepath.Join(root, "config/chart"), "--set=image="+imageName(productName),
			"--set-file=caCertificates="+c.RegistryCA(), "--set=plugin.config.tpp_url="+signingPlatform, fmt.Sprintf("--set=knative.enabled=%t", way == "helm-knative"))
	}
	manifest, err := c.productManifest(ctx, root, way)
	if err != nil {
		return err
	}
	_, err = c.Kubectl(ctx, manifest, "apply", "-f", "-")
	return err
}

// TestRelease runs helm test, whose pod asks the service that Helm installed.
func (c *Cluster) TestRelease(ctx context.Context) error { return c.helm(ctx, "test", productName) }

// RemoveProduct removes what InstallProduct made in whatever way, be it only half made: the namespace takes with it what
// is in it, what is not has the same name in every way, and Helm keeps notes. Where nothing is there it does nothing.
func (c *Cluster) RemoveProduct(ctx context.Context) error {
	root, err := moduleDir(ctx)
	if err != nil {
		return err
	}
	for _, what := range [][]string{
		{"-f", filepath.Join(root, "config/install.yaml")},
		{"secrets", "--namespace=default", "--selector=owner=helm,name=" + productName},
	} {
		if _, err := c.Kubectl(ctx, "", append([]string{"delete", "--ignore-not-found", "--timeout=" + removeTime.String()}, what...)...); err != nil {
			return err
		}
	}
	return nil
}

// productManifest is what the README has a user apply, the CA of the registry and the plugin's platform before what reads them; of func
// what it applies after that. Its image is the Dockerfile's here, in which certmanager has another path.
func (c *Cluster) productManifest(ctx context.Context, root, way string) (string, error) {
	files := map[string]string{"knative": "config/knative.yaml", "plain": "config/install.yaml", "func": "config/validate/testdata/function.yaml"}
	file, known := files[way]
	rendered := strings.HasPrefix(way, "config/")
	if !known && !rendered {
		return "", fmt.Errorf("no way of installing is called %q; there are %s", way, strings.Join(Ways, ", "))
	}
	product, err := "", error(nil)
	if rendered {
		product, err = c.Kubectl(ctx, "", "kustomize", filepath.Join(root, way))
	} else {
		product, err = readText(filepath.Join(root, file))
	}
	if err != nil {
		return "", fmt.Errorf("find the manifests: %w", err)
	}
	create := func(args ...string) []string {
		return append([]string{"create", "--dry-run=client", "--output=yaml", "--namespace=" + productName}, args...)
	}
	before := [][]string{create("namespace", productName)}
	if way == "func" {
		before = [][]string{{"kustomize", filepath.Join(root, "config/func")}}
	}
	text := ""
	before = append(before, create("configmap", "ca-certificates", "--from-file=ca.crt="+c.RegistryCA()),
		create("configmap", "notation-plugin-config", "--from-literal=tpp_url="+signingPlatform))
	for _, args := range before {
		manifest, err := c.Kubectl(ctx, "", args...)
		if err != nil {
			return "", err
		}
		text += manifest + "---\n"
	}
	return strings.NewReplacer(publicImage, imageName(productName), functionImage, imageName(productName), "- /func/f\n", "- /"+productName+"\n").Replace(text + product), nil
}

func readText(path string) (string, error) {
	data, err := os.ReadFile(path)
	return string(data), err
}

// RegistryCA is the file with the authority that signed the registry's certificate.
func (c *Cluster) RegistryCA() string { return c.path("pki", "registry-ca.crt") }

func moduleDir(ctx context.Context) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the manifests: %w", err)
	}
	return strings.TrimSpace(string(root)), nil
}

// helm runs Helm as the administrator.
func (c *Cluster) helm(ctx context.Context, args ...string) error {
	program, err := c.BuildHelm(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, kubectlTime)
	defer cancel()
	cmd := c.Command(ctx, program, append(args, "--kubeconfig="+c.kubeconfig("admin"))...)
	return finish(cmd, "helm "+args[0])
}

// BuildHelm builds Helm once, for all tests, and gives its path.
func (c *Cluster) BuildHelm(ctx context.Context) (string, error) {
	builder, err := bed.NewBuilder(ctx, bed.Options{Log: c.log})
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, helmTime)
	defer cancel()
	unlock, err := builder.Lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	return builder.Program(ctx, "helm", "helm", "helm.sh/helm/v3/cmd/helm")
}

// Send has the load generator, e2e/cmd/loadgen, send requests from inside the cluster's network, and returns what it prints.
func (c *Cluster) Send(ctx context.Context, body string, args ...string) (string, error) {
	c.loadgen.Do(func() { c.loadgenProgram, c.loadgenErr = c.buildOwn(ctx, "loadgen", "e2e/cmd/loadgen") })
	if c.loadgenErr != nil {
		return "", c.loadgenErr
	}
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	cmd, stderr := c.Command(ctx, c.loadgenProgram, args...), &bytes.Buffer{}
	cmd.Stdin, cmd.Stderr = strings.NewReader(body), stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("send: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	if stderr.Len() > 0 {
		fmt.Fprintf(c.log, "%s", stderr)
	}
	return string(out), nil
}

// SendToAPIServer is Send with the API server as the receiver, asked by whom the token names.
func (c *Cluster) SendToAPIServer(ctx context.Context, token, path, body string, args ...string) (string, error) {
	return c.Send(ctx, body, append([]string{"--address=" + nodeAddress + ":6443", "--url=" + serverURL + path, "--ca=" + c.path("pki", "ca.crt"),
		"--header=Content-Type: application/json", "--header=Authorization: Bearer " + token}, args...)...)
}

// cutTable drops what is on its way to the service or back from it, as a network that is cut does.
const cutTable = "table inet cut {\n chain forward {\n  type filter hook forward priority 0;\n  tcp dport 9443 drop\n  tcp sport 9443 drop\n }\n}\n"

// Cut cuts the network between the service's port for TLS and all other pods, until Mend.
func (c *Cluster) Cut(ctx context.Context) error { return c.nft(ctx, cutTable) }

// Mend undoes Cut. Where nothing is cut it does nothing.
func (c *Cluster) Mend(ctx context.Context) error {
	return c.nft(ctx, "add table inet cut; delete table inet cut\n")
}

func (c *Cluster) nft(ctx context.Context, commands string) error {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	cmd := c.enter(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(commands)
	return finish(cmd, "nft")
}

// InstallRegistry runs a registry with images under RegistryHost.
func (c *Cluster) InstallRegistry(ctx context.Context) error {
	program, err := c.buildOwn(ctx, "registry", "e2e/cmd/registry")
	if err != nil {
		return err
	}
	i := programImage("registry", program)
	i.Files["pause"] = c.built.Images["pause"]
	if err := c.importImage(ctx, i); err != nil {
		return err
	}
	secret, err := c.registrySecret()
	if err != nil {
		return err
	}
	build, err := os.ReadFile(c.imageMarker("registry")) // another program under the same name starts another pod
	if err != nil {
		return fmt.Errorf("image of the registry: %w", err)
	}
	manifest := strings.NewReplacer("IMAGE", imageName("registry"), "HOST", RegistryHost, "BUILD", fmt.Sprintf("%x", sha256.Sum256(build))).Replace(registryManifest)
	if err := c.Apply(ctx, manifest+"---\n"+secret); err != nil {
		return err
	}
	return c.rollout(ctx, "images")
}

func (c *Cluster) registrySecret() (string, error) {
	files := map[string][]byte{}
	for key, name := range map[string]string{"tls.crt": "registry.crt", "tls.key": "registry.key", "ca.crt": "registry-ca.crt"} {
		data, err := os.ReadFile(c.path("pki", name))
		if err != nil {
			return "", fmt.Errorf("certificate of the registry: %w", err)
		}
		files[key] = data
	}
	secret, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
		"metadata": map[string]string{"name": "registry-tls", "namespace": "images"}, "data": files,
	})
	return string(secret), err
}

// Trust returns the trust stores and policies that make the registry's images trusted.
func (c *Cluster) Trust(ctx context.Context) (string, error) {
	return c.Kubectl(ctx, "", "get", "--raw=/api/v1/namespaces/images/services/registry:trust/proxy/")
}

// kyvernoImages are the programs of the Deployment that runs; the others are left without pods.
var kyvernoImages = map[string]string{"kyverno": "cmd/kyverno", "kyvernopre": "cmd/kyverno-init"}

// InstallKyverno runs Kyverno's admission controller as its own manifest says, with local images.
func (c *Cluster) InstallKyverno(ctx context.Context) error {
	for _, name := range sortedKeys(kyvernoImages) {
		if err := c.importImage(ctx, programImage(name, c.built.Kyverno[name])); err != nil {
			return err
		}
	}
	data, err := os.ReadFile(c.built.Kyverno["install.yaml"])
	if err != nil {
		return fmt.Errorf("manifest of Kyverno: %w", err)
	}
	text := string(data)
	for name := range kyvernoImages {
		text = strings.ReplaceAll(text, "reg.kyverno.io/kyverno/"+name+":latest", imageName(name))
	}
	if err := c.Apply(ctx, text); err != nil {
		return err
	}
	if err := c.applyAs(ctx, "settings", kyvernoSettings); err != nil {
		return err
	}
	return c.rollout(ctx, "kyverno")
}

// kyvernoSettings leave the controllers that no test needs without pods. Of their manifest nothing else changes.
const kyvernoSettings = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: kyverno-background-controller, namespace: kyverno}
spec: {replicas: 0}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: kyverno-cleanup-controller, namespace: kyverno}
spec: {replicas: 0}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: kyverno-reports-controller, namespace: kyverno}
spec: {replicas: 0}
`
