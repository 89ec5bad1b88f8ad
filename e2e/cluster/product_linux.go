package cluster

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed manifests/registry.yaml
var registryManifest string

const (
	productName   = "kyverno-notation-venafi"
	productModule = "github.com/nirmata/kyverno-notation-venafi"
	publicImage   = "ghcr.io/nirmata/kyverno-notation-venafi:latest" // in the manifests
)

// Ways are the ways of installing the product, and the manifest of each.
var ways = map[string]string{"knative": "config/knative.yaml", "plain": "config/install.yaml"}

// buildOwn builds a program of the product's own module as the Dockerfile does.
func (c *Cluster) buildOwn(ctx context.Context, name, pkg string) (string, error) {
	path := filepath.Join(c.cache, "cluster-own", name)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, productModule+"/"+pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return path, nil
}

// ImportProduct makes the image of the Dockerfile, with the stand-in for the plugin, and with the authority of the
// cluster's registry where the base image has the authorities of the world.
func (c *Cluster) ImportProduct(ctx context.Context) error {
	program, err := c.buildOwn(ctx, productName, "function/cmd/kyverno-notation-venafi")
	if err != nil {
		return err
	}
	plugin, err := c.buildOwn(ctx, "notation-venafi-csp", "testdata/standin")
	if err != nil {
		return err
	}
	return c.importImage(ctx, image{
		Name: productName,
		Files: map[string]string{
			productName:                              program,
			"plugins/venafi-csp/notation-venafi-csp": plugin,
			"etc/ssl/certs/ca-certificates.crt":      c.path("pki", "registry-ca.crt"),
		},
		Entrypoint: []string{"/" + productName}, Command: []string{"serve"},
		Env: []string{"PLUGINS_DIR=/plugins"}, User: "65532:65532",
	})
}

// InstallProduct installs the product in one of its ways, as the README says, only the image's name changed, and waits
// until it serves.
func (c *Cluster) InstallProduct(ctx context.Context, way string) error {
	manifest, err := productManifest(ctx, way)
	if err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, manifest, "apply", "-f", "-"); err != nil {
		return err
	}
	if way == "knative" {
		if _, err := c.Kubectl(ctx, "", "wait", "--for=condition=Ready", "ksvc/"+productName, "--namespace="+productName, "--timeout="+readyTime.String()); err != nil {
			return err
		}
	}
	return c.rollout(ctx, productName)
}

// RemoveProduct removes what InstallProduct made, the namespace included.
func (c *Cluster) RemoveProduct(ctx context.Context, way string) error {
	manifest, err := productManifest(ctx, way)
	if err != nil {
		return err
	}
	_, err = c.Kubectl(ctx, manifest, "delete", "--ignore-not-found", "--timeout="+readyTime.String(), "-f", "-")
	return err
}

func productManifest(ctx context.Context, way string) (string, error) {
	file, known := ways[way]
	if !known {
		return "", fmt.Errorf("no way of installing is called %q; there are %s", way, strings.Join(sortedKeys(ways), ", "))
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the manifests: %w", err)
	}
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), file))
	if err != nil {
		return "", fmt.Errorf("find the manifests: %w", err)
	}
	return strings.ReplaceAll(string(data), publicImage, imageName(productName)), nil
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
	manifest := strings.NewReplacer("IMAGE", imageName("registry"), "HOST", RegistryHost).Replace(registryManifest)
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
