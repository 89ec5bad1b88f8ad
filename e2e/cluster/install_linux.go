package cluster

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
)

//go:embed manifests/coredns.yaml
var corednsManifest string

//go:embed manifests/traefik.yaml
var traefikManifest string

func (c *Cluster) installDNS(ctx context.Context) error {
	manifest := strings.NewReplacer("IMAGE", imageName("coredns"), "ADDRESS", dnsService, "DOMAIN", domain).Replace(corednsManifest)
	if err := c.Apply(ctx, manifest); err != nil {
		return err
	}
	return c.rollout(ctx, "kube-system")
}

func (c *Cluster) installKnativeDefinitions(ctx context.Context) error {
	text := ""
	for _, part := range []struct{ module, pattern string }{
		{servingModule, "config/core/100-namespace.yaml"},
		{servingModule, "config/core/300-resources/*.yaml"},
		{networkingModule, "config/[^p]*.yaml"},
		{cachingModule, "config/image.yaml"},
	} {
		more, err := c.manifests(part.module, part.pattern)
		if err != nil {
			return err
		}
		text += more
	}
	if err := c.Apply(ctx, text); err != nil {
		return err
	}
	_, err := c.Kubectl(ctx, "", "wait", "--for=condition=Established", "crd", "--all", "--timeout="+readyTime.String())
	return err
}

// knativeSettings are the two that Knative cannot guess.
const knativeSettings = `
apiVersion: v1
kind: ConfigMap
metadata: {name: config-network, namespace: knative-serving}
data: {ingress-class: traefik.ingress.networking.knative.dev}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config-domain, namespace: knative-serving}
data: {cluster.test: ""}
`

// installKnative leaves the webhook configurations to the end: before their pod answers they would refuse the rest.
func (c *Cluster) installKnative(ctx context.Context) error {
	text, err := c.manifests(servingModule, "config/core/200-roles/*.yaml", "config/core/200-serviceaccount.yaml",
		"config/core/300-knativecertificate.yaml", "config/core/configmaps/*.yaml", "config/core/webhooks/secret.yaml",
		"config/core/999-cache.yaml", "config/core/deployments/*.yaml")
	if err != nil {
		return err
	}
	if err := c.Apply(ctx, text); err != nil {
		return err
	}
	if err := c.applyAs(ctx, "settings", knativeSettings); err != nil {
		return err
	}
	if err := c.Apply(ctx, strings.ReplaceAll(traefikManifest, "IMAGE", imageName("traefik"))); err != nil {
		return err
	}
	for _, namespace := range []string{"knative-serving", "traefik"} {
		if err := c.rollout(ctx, namespace); err != nil {
			return err
		}
	}
	if text, err = c.manifests(servingModule, "config/core/webhooks/*-*.yaml", "config/core/webhooks/defaulting.yaml"); err != nil {
		return err
	}
	return c.Apply(ctx, text)
}

// applyAs keeps what it sets when the manifest that it changes is applied again.
func (c *Cluster) applyAs(ctx context.Context, manager, manifests string) error {
	if _, err := c.Kubectl(ctx, manifests, "apply", "--server-side", "--force-conflicts", "--field-manager="+manager, "-f", "-"); err != nil {
		return fmt.Errorf("apply as %s: %w", manager, err)
	}
	return nil
}
