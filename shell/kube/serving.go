package kube

import (
	"context"
	"log/slog"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TLSSecret watches a Secret of type kubernetes.io/tls. It need not exist.
type TLSSecret struct {
	client *Client
	link   *link
	secret *one[keyPair]
}

// keyPair is a certificate chain and its key, PEM.
type keyPair struct{ certificate, key []byte }

// NewTLSSecret prepares; Watch does the work. take is called with what the Secret holds, and again with every change;
// not when it is gone.
func NewTLSSecret(client *Client, namespace, name string, log *slog.Logger, take func(certificate, key []byte)) *TLSSecret {
	s := &TLSSecret{client: client, secret: watchOne("secrets", namespace, name, decodeKeyPair)}
	s.secret.mirror.changed = func() {
		if pair, exists := s.secret.get(); exists {
			take(pair.certificate, pair.key)
		}
	}
	s.link = newLink(log, "serving certificate", s.secret.target)
	return s
}

// Watch follows the Secret until ctx ends. Run it once.
func (s *TLSSecret) Watch(ctx context.Context) {
	s.client.watch(ctx, s.secret.target, &s.secret.mirror, s.link.report)
}

// Connected tells whether changes are being seen.
func (s *TLSSecret) Connected() bool { return s.link.connected() }

// decodeKeyPair gives what there is; whether it is of use is not decided here.
func decodeKeyPair(object *unstructured.Unstructured) keyPair {
	content, _ := decodeSecret(object)
	return keyPair{certificate: content.Data["tls.crt"], key: content.Data["tls.key"]}
}
