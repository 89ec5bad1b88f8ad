package kube

import (
	"context"
	"log/slog"

	core "k8s.io/api/core/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/core/recordkey"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// RecordKey watches the Secret with the key that signs decision records, which need not exist.
type RecordKey struct {
	client *kubeclient.Client
	log    *slog.Logger
	health *kubeclient.Health
	secret *kubeclient.Object[recordPair]
}

// recordPair is the key, or why it cannot be used.
type recordPair struct {
	pair    *certificates.Pair
	problem string
}

// NewRecordKey prepares; Watch does the work.
func NewRecordKey(client *kubeclient.Client, namespace, name string, log *slog.Logger) *RecordKey {
	k := &RecordKey{client: client, log: log, secret: kubeclient.NewSecret(namespace, name, decodeRecordKey)}
	k.secret.OnChange(func() {
		if read, exists := k.secret.Get(); exists && read.problem != "" {
			log.Error("the key for decision records cannot be used", "secret", name, "namespace", namespace, "reason", read.problem)
		}
	})
	k.health = kubeclient.NewHealth(log, "key for decision records", k.secret.Target)
	return k
}

// Watch follows the Secret until ctx ends. Run it once.
func (k *RecordKey) Watch(ctx context.Context) { k.secret.Watch(ctx, k.client, k.health) }

// Connected reports whether changes are being seen.
func (k *RecordKey) Connected() bool { return k.health.Connected() }

// Key gives the key that signs; nil while there is none that can be used.
func (k *RecordKey) Key() *certificates.Pair {
	read, _ := k.secret.Get()
	return read.pair
}

func decodeRecordKey(secret *core.Secret) recordPair {
	pair, err := recordkey.ParsePair(secret.Data[core.TLSCertKey], secret.Data[core.TLSPrivateKeyKey])
	if err != nil {
		return recordPair{problem: err.Error()}
	}
	return recordPair{pair: pair}
}
