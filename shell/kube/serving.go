package kube

import (
	"context"
	"log/slog"

	core "k8s.io/api/core/v1"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// TLSSecret watches a Secret of type kubernetes.io/tls, which need not exist.
type TLSSecret struct {
	client *kubeclient.Client
	health *kubeclient.Health
	secret *kubeclient.Object[keyPair]
}

// keyPair is a certificate chain and its key, PEM.
type keyPair struct{ certificate, key []byte }

// NewTLSSecret prepares; Watch does the work. take is called with what the Secret holds, first and after every change, but
// not when the Secret is deleted.
func NewTLSSecret(client *kubeclient.Client, namespace, name string, log *slog.Logger, take func(certificate, key []byte)) *TLSSecret {
	s := &TLSSecret{client: client, secret: kubeclient.NewSecret(namespace, name, decodeKeyPair)}
	s.secret.OnChange(func() {
		if pair, exists := s.secret.Get(); exists {
			take(pair.certificate, pair.key)
		}
	})
	s.health = kubeclient.NewHealth(log, "serving certificate", s.secret.Target)
	return s
}

// Watch follows the Secret until ctx ends. Run it once.
func (s *TLSSecret) Watch(ctx context.Context) {
	s.secret.Watch(ctx, s.client, s.health)
}

// Connected reports whether changes are being seen.
func (s *TLSSecret) Connected() bool { return s.health.Connected() }

// decodeKeyPair gives the values as they are; who takes them checks them.
func decodeKeyPair(secret *core.Secret) keyPair {
	return keyPair{certificate: secret.Data[core.TLSCertKey], key: secret.Data[core.TLSPrivateKeyKey]}
}
