package kube

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/nirmata/kyverno-notation-venafi/shell/registry"
)

// one watches a single object by its name.
type one[T any] struct {
	target
	mirror mirror[T]
}

func watchOne[T any](resource, namespace, name string, decode func(*unstructured.Unstructured) T) *one[T] {
	of := target{resource: schema.GroupVersionResource{Version: "v1", Resource: resource}, namespace: namespace, name: name}
	return &one[T]{target: of, mirror: mirror[T]{decode: decode, changed: func() {}}}
}

// get gives the object; false while it does not exist.
func (o *one[T]) get() (T, bool) {
	items, _ := o.mirror.all()
	if len(items) == 0 {
		var none T
		return none, false
	}
	return items[0], true
}

// answered tells whether the API server gave the object, said that there is none, or refused to tell.
func (o *one[T]) answered(l *link) bool {
	_, listed := o.mirror.all()
	return listed || l.refused(o.target)
}

// PullSecrets are the registry credentials in secrets of one namespace.
type PullSecrets struct {
	client  *Client
	log     *slog.Logger
	link    *link
	secrets []*one[registry.Keyring] // in the order in which they are asked
}

// NewPullSecrets prepares to watch the secrets of these names; Watch does the work. Each is watched by its own
// name, so that a role can be limited to them.
func NewPullSecrets(client *Client, namespace string, names []string, log *slog.Logger) *PullSecrets {
	p := &PullSecrets{client: client, log: log}
	var targets []target
	for _, name := range names {
		secret := watchOne("secrets", namespace, name, decodeKeyring)
		secret.mirror.changed = func() { p.tell(secret) }
		p.secrets = append(p.secrets, secret)
		targets = append(targets, secret.target)
	}
	p.link = newLink(log, "image pull secrets", targets...)
	return p
}

// Watch follows the secrets until ctx ends. Run it once.
func (p *PullSecrets) Watch(ctx context.Context) {
	var watches sync.WaitGroup
	for _, secret := range p.secrets {
		watches.Go(func() { p.client.watch(ctx, secret.target, &secret.mirror, p.link.report) })
	}
	watches.Wait()
}

// Synced tells whether the API server answered for every secret, be it that a secret does not exist.
func (p *PullSecrets) Synced() bool {
	for _, secret := range p.secrets {
		if !secret.answered(p.link) {
			return false
		}
	}
	return true
}

// Connected tells whether changes of all secrets are being seen.
func (p *PullSecrets) Connected() bool { return p.link.connected() }

// Credential gives the credential for a repository of a registry that is the most specific one of all secrets, as the
// kubelet prefers them; else an empty one, which is anonymous. It is for the client of registries, whose errors it never
// causes.
func (p *PullSecrets) Credential(_ context.Context, host, repository string) (auth.Credential, error) {
	rings := make([]registry.Keyring, len(p.secrets))
	for i, secret := range p.secrets {
		rings[i], _ = secret.get()
	}
	entry, _ := registry.FindIn(rings, host, repository)
	return entry.Credential, nil
}

func (p *PullSecrets) tell(secret *one[registry.Keyring]) {
	ring, exists := secret.get()
	if !exists {
		p.log.Warn("image pull secret does not exist; registries are asked without it", "secret", secret.name, "namespace", secret.namespace)
		return
	}
	for _, problem := range ring.Problems() {
		p.log.Error("image pull secret cannot be used as it is", "secret", secret.name, "namespace", secret.namespace, "reason", problem)
	}
	p.log.Info("image pull secret loaded", "secret", secret.name, "namespace", secret.namespace, "registries", ring.Len())
}

// secretContent is what we need of a Secret.
type secretContent struct {
	Type string            `json:"type"`
	Data map[string][]byte `json:"data"`
}

func decodeSecret(object *unstructured.Unstructured) (secretContent, error) {
	var content secretContent
	return content, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &content)
}

// decodeKeyring reads the types of secrets that the kubelet pulls with (Kubernetes, "Secrets", section "Docker
// config Secrets").
func decodeKeyring(object *unstructured.Unstructured) registry.Keyring {
	content, err := decodeSecret(object)
	switch {
	case err != nil:
		return registry.InvalidKeyring("its data cannot be decoded")
	case content.Type == "kubernetes.io/dockerconfigjson":
		return registry.ParseDockerConfig(content.Data[".dockerconfigjson"])
	case content.Type == "kubernetes.io/dockercfg":
		return registry.ParseDockerCfg(content.Data[".dockercfg"])
	}
	return registry.InvalidKeyring(fmt.Sprintf("its type is %q; make it with kubectl create secret docker-registry", content.Type))
}
