package certmanager

import (
	"context"
	"fmt"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/core/recordkey"
	"github.com/nirmata/kyverno-notation-venafi/shell/issuer"
)

func (o Others) keepsRecordKey() bool { return o.RecordKeys != "" && o.RecordKey.Duration > 0 }

// nextRecordKey decides the next step for the key for records.
func (m *Certificates) nextRecordKey(from objects, now time.Time) recordkey.Step {
	if !m.others.keepsRecordKey() {
		return recordkey.Step{Wait: longestPause}
	}
	return m.others.RecordKey.Next(m.recordKeyState(from), now)
}

func (m *Certificates) recordKeyState(from objects) recordkey.State {
	var state recordkey.State
	if from.recordKey != nil {
		data := from.recordKey.Data
		if len(data[core.TLSCertKey])+len(data[core.TLSPrivateKeyKey]) > 0 {
			state.Key = m.parse(recordkey.ParsePair, from.recordKey.Name, data[core.TLSCertKey], data[core.TLSPrivateKeyKey])
		}
		if len(data[keySuccessorCertificate])+len(data[keySuccessorPrivate]) > 0 {
			state.Next = m.parse(recordkey.ParsePair, from.recordKey.Name, data[keySuccessorCertificate], data[keySuccessorPrivate])
		}
		state.Public = recordkey.Parse(data[recordkey.PublicKey])
	}
	if from.publicKeys != nil {
		text := from.publicKeys.Data[recordkey.PublicKey]
		state.Published = recordkey.Parse([]byte(text))
		state.Exact = text == recordkey.Encode(state.Published)
	}
	return state
}

// keepRecordKey takes one step, on the objects that it was decided on.
func (m *Certificates) keepRecordKey(ctx context.Context, from objects, step recordkey.Step, now time.Time) error {
	state := m.recordKeyState(from)
	switch step.Action {
	case recordkey.Create:
		next, err := issuer.RecordKey(m.others.RecordKey, now)
		if err != nil {
			return fmt.Errorf("key for records: %w", err)
		}
		return m.writeRecordKeys(ctx, from, state.Key, next, step)
	case recordkey.Copy:
		return m.writeRecordKeys(ctx, from, state.Key, state.Next, step)
	case recordkey.Promote:
		return m.writeRecordKeys(ctx, from, state.Next, nil, step)
	case recordkey.Publish:
		return m.publishRecordKeys(ctx, from, step)
	}
	return fmt.Errorf("key for records: unknown action %q", step.Action)
}

// writeRecordKeys writes the key that signs and the next one; nil for none. What stands in the place of a key that cannot be used
// stays until there is another, as a Secret of type kubernetes.io/tls must have one.
func (m *Certificates) writeRecordKeys(ctx context.Context, from objects, key, next *certificates.Pair, step recordkey.Step) error {
	data := map[string][]byte{recordkey.PublicKey: []byte(recordkey.Encode(step.Public)), keySuccessorCertificate: nil, keySuccessorPrivate: nil}
	var err error
	if key != nil {
		if data[core.TLSCertKey], data[core.TLSPrivateKeyKey], err = key.PEM(); err != nil {
			return err
		}
	}
	if next != nil {
		if data[keySuccessorCertificate], data[keySuccessorPrivate], err = next.PEM(); err != nil {
			return err
		}
	}
	return m.write(ctx, from.recordKey, m.withData(from.recordKey, m.others.RecordKeys, core.SecretTypeOpaque, data))
}

// publishRecordKeys creates the ConfigMap, or changes our key of the one that was read.
func (m *Certificates) publishRecordKeys(ctx context.Context, from objects, step recordkey.Step) error {
	configMap := &core.ConfigMap{ObjectMeta: m.newMeta(m.others.RecordKeys)}
	if from.publicKeys != nil {
		configMap = from.publicKeys.DeepCopy()
	}
	set(&configMap.Data, recordkey.PublicKey, recordkey.Encode(step.Public))
	client := m.client.Core.ConfigMaps(m.client.Namespace)
	if from.publicKeys == nil {
		return create(ctx, client, "configmaps", configMap)
	}
	return update(ctx, client, "configmaps", configMap)
}
