package kube

import (
	"context"
	"log/slog"

	core "k8s.io/api/core/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/callertoken"
	"github.com/nirmata/kyverno-notation-venafi/core/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// SharedKey watches the Secret with the key that seals what replicas share, which need not exist.
type SharedKey struct {
	client *kubeclient.Client
	health *kubeclient.Health
	secret *kubeclient.Object[sharedKeys]
}

// sharedKeys are the keys, or why they cannot be used.
type sharedKeys struct {
	ring    sharedcache.Keyring
	problem string
}

// NewSharedKey prepares; Watch does the work. For surroundings see sharedcache.NewKeyring.
func NewSharedKey(client *kubeclient.Client, namespace, name, surroundings string, log *slog.Logger) *SharedKey {
	k := &SharedKey{client: client}
	k.secret = kubeclient.NewSecret(namespace, name, func(secret *core.Secret) sharedKeys {
		ring, err := sharedcache.NewKeyring(callertoken.Parse(secret.Data, nil).Accepted(), surroundings)
		if err != nil {
			return sharedKeys{problem: err.Error()}
		}
		return sharedKeys{ring: ring}
	})
	k.secret.OnChange(func() {
		if read, exists := k.secret.Get(); exists && read.problem != "" {
			log.Error("the key for the shared cache cannot be used; nothing is shared", "secret", name, "namespace", namespace, "reason", read.problem)
		} else if !exists {
			log.Warn("the key for the shared cache does not exist; nothing is shared", "secret", name, "namespace", namespace)
		}
	})
	k.health = kubeclient.NewHealth(log, "key for the shared cache", k.secret.Target)
	return k
}

// Watch follows the Secret until ctx ends. Run it once.
func (k *SharedKey) Watch(ctx context.Context) { k.secret.Watch(ctx, k.client, k.health) }

// Connected reports whether changes are being seen.
func (k *SharedKey) Connected() bool { return k.health.Connected() }

// Synced reports whether the API server answered, even if only that the Secret does not exist.
func (k *SharedKey) Synced() bool { return k.secret.Answered(k.health) }

// Keyring gives the keys; an empty keyring while there are none that can be used.
func (k *SharedKey) Keyring() sharedcache.Keyring {
	read, _ := k.secret.Get()
	return read.ring
}
