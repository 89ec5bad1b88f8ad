package kube

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	core "k8s.io/api/core/v1"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry"
)

// PullSecrets are the registry credentials in secrets of one namespace.
type PullSecrets struct {
	client  *kubeclient.Client
	log     *slog.Logger
	health  *kubeclient.Health
	secrets []*kubeclient.Object[registry.Keyring] // in order of precedence
}

// NewPullSecrets prepares to watch the secrets of these names; Watch does the work.
func NewPullSecrets(client *kubeclient.Client, namespace string, names []string, log *slog.Logger) *PullSecrets {
	p := &PullSecrets{client: client, log: log}
	var targets []kubeclient.Target
	for _, name := range names {
		secret := kubeclient.NewSecret(namespace, name, decodeKeyring)
		secret.OnChange(func() { p.logSecret(secret) })
		p.secrets = append(p.secrets, secret)
		targets = append(targets, secret.Target)
	}
	p.health = kubeclient.NewHealth(log, "image pull secrets", targets...)
	return p
}

// Watch follows the secrets until ctx ends. Run it once.
func (p *PullSecrets) Watch(ctx context.Context) {
	var watches sync.WaitGroup
	for _, secret := range p.secrets {
		watches.Go(func() { secret.Watch(ctx, p.client, p.health) })
	}
	watches.Wait()
}

// Synced reports whether the API server answered for every secret, even if only that it does not exist.
func (p *PullSecrets) Synced() bool {
	for _, secret := range p.secrets {
		if !secret.Answered(p.health) {
			return false
		}
	}
	return true
}

// Connected reports whether changes of all secrets are being seen.
func (p *PullSecrets) Connected() bool { return p.health.Connected() }

// Credential gives the most specific credential of all secrets for a repository, as the kubelet does, or an empty one, which
// is anonymous. The error is always nil; it is there for the registry client's interface.
func (p *PullSecrets) Credential(_ context.Context, host, repository string) (auth.Credential, error) {
	rings := make([]registry.Keyring, len(p.secrets))
	for i, secret := range p.secrets {
		rings[i], _ = secret.Get()
	}
	entry, _ := registry.FindIn(rings, host, repository)
	return entry.Credential, nil
}

func (p *PullSecrets) logSecret(secret *kubeclient.Object[registry.Keyring]) {
	ring, exists := secret.Get()
	if !exists {
		p.log.Warn("image pull secret does not exist; registries are asked without it", "secret", secret.Name, "namespace", secret.Namespace)
		return
	}
	for _, problem := range ring.Problems() {
		p.log.Error("image pull secret cannot be used as it is", "secret", secret.Name, "namespace", secret.Namespace, "reason", problem)
	}
	p.log.Info("image pull secret loaded", "secret", secret.Name, "namespace", secret.Namespace, "registries", ring.Len())
}

// decodeKeyring reads the types of secrets that the kubelet pulls with (Kubernetes, "Secrets", section "Docker
// config Secrets").
func decodeKeyring(secret *core.Secret) registry.Keyring {
	switch secret.Type {
	case core.SecretTypeDockerConfigJson:
		return registry.ParseDockerConfig(secret.Data[core.DockerConfigJsonKey])
	case core.SecretTypeDockercfg:
		return registry.ParseDockerCfg(secret.Data[core.DockerConfigKey])
	}
	return registry.InvalidKeyring(fmt.Sprintf("its type is %q; make it with kubectl create secret docker-registry", secret.Type))
}
