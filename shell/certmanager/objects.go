package certmanager

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/callertoken"
	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// Keys of the Secrets and of the ConfigMap, beside those of a Secret of type kubernetes.io/tls.
const (
	keySuccessorCertificate = "next.crt"
	keySuccessorPrivate     = "next.key"
	keyBundle               = "ca.crt"

	labelCached    = "cache.kyverno.io/enabled" // Kyverno caches ConfigMaps with this label
	labelManagedBy = "app.kubernetes.io/managed-by"
	// annotationSince holds when each CA of the bundle was published, as JSON: fingerprint -> time.
	annotationSince = "notation.nirmata.io/published"
)

// objects are the objects as they were read, nil where they do not exist, and the certificates that they hold.
type objects struct {
	authority, serving, recordKey *core.Secret
	tokens                        []*core.Secret // in the order of Certificates.tokens
	bundle, epoch, publicKeys     *core.ConfigMap
	state                         certificates.State
}

// gather reads all objects. Certificates in them that cannot be parsed count as missing.
func (m *Certificates) gather(ctx context.Context) (objects, error) {
	secrets, configMaps := m.client.Core.Secrets(m.client.Namespace), m.client.Core.ConfigMaps(m.client.Namespace)
	var o objects
	var err error
	if o.authority, err = get(ctx, secrets, "secrets", AuthoritySecret); err != nil {
		return objects{}, err
	}
	if o.serving, err = get(ctx, secrets, "secrets", ServingSecret); err != nil {
		return objects{}, err
	}
	if o.bundle, err = get(ctx, configMaps, "configmaps", BundleConfigMap); err != nil {
		return objects{}, err
	}
	if o.epoch, err = get(ctx, configMaps, "configmaps", m.others.EpochConfigMap); err != nil {
		return objects{}, err
	}
	for _, t := range m.tokens {
		secret, err := get(ctx, secrets, "secrets", t.name)
		if err != nil {
			return objects{}, err
		}
		o.tokens = append(o.tokens, secret)
	}
	if m.others.keepsRecordKey() {
		if o.recordKey, err = get(ctx, secrets, "secrets", m.others.RecordKeys); err != nil {
			return objects{}, err
		}
		if o.publicKeys, err = get(ctx, configMaps, "configmaps", m.others.RecordKeys); err != nil {
			return objects{}, err
		}
	}
	o.state = m.stateOf(o)
	return o, nil
}

// getter is a typed client of one resource.
type getter[O any] interface {
	Get(ctx context.Context, name string, options metav1.GetOptions) (*O, error)
}

// get gives nil for an object that does not exist.
func get[O any](ctx context.Context, from getter[O], resource, name string) (*O, error) {
	ctx, cancel := context.WithTimeout(ctx, kubeclient.RequestTimeout)
	defer cancel()
	object, err := from.Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%s %s: %w", resource, name, err)
	}
	return object, nil
}

func (m *Certificates) stateOf(o objects) certificates.State {
	state := certificates.State{Bundle: bundleOf(o.bundle)}
	if o.authority != nil {
		data := o.authority.Data
		state.Authority = m.parse(certificates.ParseAuthority, o.authority.Name, data[core.TLSCertKey], data[core.TLSPrivateKeyKey])
		if len(data[keySuccessorCertificate])+len(data[keySuccessorPrivate]) > 0 {
			state.Successor = m.parse(certificates.ParseAuthority, o.authority.Name, data[keySuccessorCertificate], data[keySuccessorPrivate])
		}
	}
	if o.serving != nil {
		data := o.serving.Data
		state.Serving = m.parse(certificates.ParsePair, o.serving.Name, data[core.TLSCertKey], data[core.TLSPrivateKeyKey])
		state.Copy = certificates.ParseBundle(data[keyBundle])
	}
	return state
}

// parse gives nil for a pair that cannot be used, and logs why.
func (m *Certificates) parse(with func(certificate, key []byte) (*certificates.Pair, error), secret string, certificate, key []byte) *certificates.Pair {
	pair, err := with(certificate, key)
	if err != nil {
		m.log.Warn("certificate cannot be used", "secret", secret, "reason", err)
		return nil
	}
	return pair
}

func bundleOf(configMap *core.ConfigMap) certificates.Bundle {
	if configMap == nil {
		return certificates.Bundle{}
	}
	bundle := certificates.Bundle{Text: configMap.Data[keyBundle], Listed: configMap.Labels[labelCached] == "true"}
	if json.Unmarshal([]byte(configMap.Annotations[annotationSince]), &bundle.Since) != nil {
		bundle.Since = nil // then the CAs count as published now
	}
	return bundle
}

// writeAuthorities writes the CA that signs and its successor; nil for none.
func (m *Certificates) writeAuthorities(ctx context.Context, from objects, authority, successor *certificates.Pair) error {
	certificate, key, err := authority.PEM()
	if err != nil {
		return err
	}
	data := map[string][]byte{core.TLSCertKey: certificate, core.TLSPrivateKeyKey: key, keySuccessorCertificate: nil, keySuccessorPrivate: nil}
	if successor != nil {
		if data[keySuccessorCertificate], data[keySuccessorPrivate], err = successor.PEM(); err != nil {
			return err
		}
	}
	return m.write(ctx, from.authority, m.withData(from.authority, AuthoritySecret, core.SecretTypeTLS, data))
}

func (m *Certificates) writeServing(ctx context.Context, from objects, serving *certificates.Pair) error {
	certificate, key, err := serving.PEM()
	if err != nil {
		return err
	}
	return m.write(ctx, from.serving, m.withData(from.serving, ServingSecret, core.SecretTypeTLS, map[string][]byte{
		core.TLSCertKey: certificate, core.TLSPrivateKeyKey: key, keyBundle: []byte(from.state.Bundle.Text),
	}))
}

// writeToken writes the tokens of a Secret, and since when the first of them is used.
func (m *Certificates) writeToken(ctx context.Context, have *core.Secret, name string, want callertoken.State) error {
	secret := m.withData(have, name, core.SecretTypeOpaque, want.Data())
	set(&secret.Annotations, callertoken.AnnotationSince, want.Since.UTC().Format(time.RFC3339))
	return m.write(ctx, have, secret)
}

// withData makes a Secret, or sets keys in a copy of the one that was read; nil removes a key. An existing Secret keeps its
// type, which the API server does not let anyone change.
func (m *Certificates) withData(have *core.Secret, name string, kind core.SecretType, data map[string][]byte) *core.Secret {
	secret := &core.Secret{ObjectMeta: m.newMeta(name), Type: kind}
	if have != nil {
		secret = have.DeepCopy()
	}
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	for key, value := range data {
		if value == nil {
			delete(secret.Data, key)
			continue
		}
		secret.Data[key] = value
	}
	return secret
}

// write creates a Secret, or replaces the one that was read.
func (m *Certificates) write(ctx context.Context, have, secret *core.Secret) error {
	client := m.client.Core.Secrets(m.client.Namespace)
	if have == nil {
		return create(ctx, client, "secrets", secret)
	}
	return update(ctx, client, "secrets", secret)
}

// writeBundle creates the ConfigMap, or changes our key, label and annotation of the one that was read.
func (m *Certificates) writeBundle(ctx context.Context, from objects, bundle certificates.Bundle) error {
	since := make(map[string]time.Time, len(bundle.Since))
	for name, at := range bundle.Since {
		since[name] = at.UTC()
	}
	text, err := json.Marshal(since)
	if err != nil {
		return fmt.Errorf("times of the CA bundle: %w", err)
	}
	configMap := &core.ConfigMap{ObjectMeta: m.newMeta(BundleConfigMap)}
	if from.bundle != nil {
		configMap = from.bundle.DeepCopy()
	}
	set(&configMap.Data, keyBundle, bundle.Text)
	set(&configMap.Labels, labelCached, "true")
	set(&configMap.Annotations, annotationSince, string(text))
	client := m.client.Core.ConfigMaps(m.client.Namespace)
	if from.bundle == nil {
		return create(ctx, client, "configmaps", configMap)
	}
	return update(ctx, client, "configmaps", configMap)
}

func set(values *map[string]string, key, value string) {
	if *values == nil {
		*values = map[string]string{}
	}
	(*values)[key] = value
}

func (m *Certificates) createEpoch(ctx context.Context) error {
	return create(ctx, m.client.Core.ConfigMaps(m.client.Namespace), "configmaps", &core.ConfigMap{ObjectMeta: m.newMeta(m.others.EpochConfigMap)})
}

func (m *Certificates) newMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: m.client.Namespace, Labels: map[string]string{labelManagedBy: "kyverno-notation-venafi-certmanager"}}
}

// creator is a typed client of one resource.
type creator[O metav1.Object] interface {
	Create(ctx context.Context, object O, options metav1.CreateOptions) (O, error)
}

func create[O metav1.Object](ctx context.Context, with creator[O], resource string, object O) error {
	ctx, cancel := context.WithTimeout(ctx, kubeclient.RequestTimeout)
	defer cancel()
	if _, err := with.Create(ctx, object, metav1.CreateOptions{FieldManager: kubeclient.FieldManager}); err != nil {
		return fmt.Errorf("%s %s: %w", resource, object.GetName(), err)
	}
	return nil
}

// updater is a typed client of one resource.
type updater[O metav1.Object] interface {
	Update(ctx context.Context, object O, options metav1.UpdateOptions) (O, error)
}

// update replaces the version of an object that was read, and no other.
func update[O metav1.Object](ctx context.Context, with updater[O], resource string, object O) error {
	if object.GetResourceVersion() == "" { // such an update would overwrite any version
		return fmt.Errorf("%s %s: its version is unknown", resource, object.GetName())
	}
	ctx, cancel := context.WithTimeout(ctx, kubeclient.RequestTimeout)
	defer cancel()
	if _, err := with.Update(ctx, object, metav1.UpdateOptions{FieldManager: kubeclient.FieldManager}); err != nil {
		return fmt.Errorf("%s %s: %w", resource, object.GetName(), err)
	}
	return nil
}
