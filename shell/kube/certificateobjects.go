package kube

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
)

// Keys of the Secrets and of the ConfigMap.
const (
	keyCertificate          = "tls.crt"
	keyPrivate              = "tls.key"
	keySuccessorCertificate = "next.crt"
	keySuccessorPrivate     = "next.key"
	keyBundle               = "ca.crt"

	labelCached    = "cache.kyverno.io/enabled" // Kyverno keeps ConfigMaps with this label at hand
	labelManagedBy = "app.kubernetes.io/managed-by"
	// annotationSince tells when each CA of the bundle was published, as JSON: fingerprint -> time.
	annotationSince = "notation.nirmata.io/published"
)

// objects are the certificates' objects as they were read, nil where they do not exist, and what they hold.
type objects struct {
	authority, serving, bundle *unstructured.Unstructured
	epoch, caller              *unstructured.Unstructured
	state                      certificates.State
}

// gather reads all objects. What cannot be understood in them is as if it were not there.
func (m *CertificateManager) gather(ctx context.Context) (objects, error) {
	var o objects
	for _, read := range []struct {
		into           **unstructured.Unstructured
		resource, name string
	}{
		{&o.authority, "secrets", AuthoritySecret}, {&o.serving, "secrets", ServingSecret},
		{&o.bundle, "configmaps", BundleConfigMap}, {&o.epoch, "configmaps", m.others.EpochConfigMap}, {&o.caller, "secrets", m.others.CallerSecret},
	} {
		if read.name == "" {
			continue
		}
		object, err := m.get(ctx, read.resource, read.name)
		if err != nil {
			return objects{}, err
		}
		*read.into = object
	}
	o.state = certificates.State{Bundle: decodeBundle(o.bundle)}
	authority, serving := secretData(o.authority), secretData(o.serving)
	o.state.Authority = m.parse(certificates.ParseAuthority, o.authority, authority[keyCertificate], authority[keyPrivate])
	if len(authority[keySuccessorCertificate])+len(authority[keySuccessorPrivate]) > 0 {
		o.state.Successor = m.parse(certificates.ParseAuthority, o.authority, authority[keySuccessorCertificate], authority[keySuccessorPrivate])
	}
	o.state.Serving = m.parse(certificates.ParsePair, o.serving, serving[keyCertificate], serving[keyPrivate])
	o.state.Copy = certificates.ParseBundle(serving[keyBundle])
	return o, nil
}

// parse gives nil for what cannot be used, and says why.
func (m *CertificateManager) parse(with func(certificate, key []byte) (*certificates.Pair, error), from *unstructured.Unstructured, certificate, key []byte) *certificates.Pair {
	if from == nil {
		return nil
	}
	pair, err := with(certificate, key)
	if err != nil {
		m.log.Warn("certificate cannot be used", "secret", from.GetName(), "reason", err)
		return nil
	}
	return pair
}

// get gives nil for what does not exist.
func (m *CertificateManager) get(ctx context.Context, resource, name string) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	object, err := m.client.dynamic.Resource(coreV1(resource)).Namespace(m.client.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", resource, name, err)
	}
	return object, nil
}

func coreV1(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: resource}
}

func decodeBundle(object *unstructured.Unstructured) certificates.Bundle {
	if object == nil {
		return certificates.Bundle{}
	}
	bundle := certificates.Bundle{Text: decodeConfigMap(object)[keyBundle], Listed: object.GetLabels()[labelCached] == "true"}
	if json.Unmarshal([]byte(object.GetAnnotations()[annotationSince]), &bundle.Since) != nil {
		bundle.Since = nil // then they count as published now
	}
	return bundle
}

func secretData(object *unstructured.Unstructured) map[string][]byte {
	if object == nil {
		return nil
	}
	content, err := decodeSecret(object)
	if err != nil {
		return nil
	}
	return content.Data
}

// writeAuthorities writes the CA that signs and the one that waits; nil for none.
func (m *CertificateManager) writeAuthorities(ctx context.Context, from objects, authority, successor *certificates.Pair) error {
	certificate, key, err := authority.PEM()
	if err != nil {
		return err
	}
	data := map[string][]byte{keyCertificate: certificate, keyPrivate: key, keySuccessorCertificate: nil, keySuccessorPrivate: nil}
	if successor != nil {
		if data[keySuccessorCertificate], data[keySuccessorPrivate], err = successor.PEM(); err != nil {
			return err
		}
	}
	return m.writeSecret(ctx, from.authority, AuthoritySecret, data)
}

func (m *CertificateManager) writeServing(ctx context.Context, from objects, serving *certificates.Pair) error {
	certificate, key, err := serving.PEM()
	if err != nil {
		return err
	}
	return m.writeSecret(ctx, from.serving, ServingSecret, map[string][]byte{
		keyCertificate: certificate, keyPrivate: key, keyBundle: []byte(from.state.Bundle.Text),
	})
}

// writeSecret creates a Secret, or sets keys of the one that was read; nil removes a key. A Secret's type cannot be
// changed, so that of an existing one stays.
func (m *CertificateManager) writeSecret(ctx context.Context, have *unstructured.Unstructured, name string, data map[string][]byte) error {
	object, create := m.newObject("Secret", name), have == nil
	if !create {
		object = have.DeepCopy()
	} else {
		object.Object["type"] = "kubernetes.io/tls"
	}
	encoded, _, _ := unstructured.NestedMap(object.Object, "data")
	if encoded == nil {
		encoded = map[string]any{}
	}
	for name, value := range data {
		if value == nil {
			delete(encoded, name)
			continue
		}
		encoded[name] = base64.StdEncoding.EncodeToString(value)
	}
	object.Object["data"] = encoded
	return m.write(ctx, object, "secrets", create)
}

// writeBundle creates the ConfigMap, or changes what is ours of the one that was read.
func (m *CertificateManager) writeBundle(ctx context.Context, from objects, bundle certificates.Bundle) error {
	object, create := m.newObject("ConfigMap", BundleConfigMap), from.bundle == nil
	if !create {
		object = from.bundle.DeepCopy()
	}
	since := make(map[string]time.Time, len(bundle.Since))
	for name, at := range bundle.Since {
		since[name] = at.UTC()
	}
	text, err := json.Marshal(since)
	if err != nil {
		return fmt.Errorf("times of the CA bundle: %w", err)
	}
	data, _, _ := unstructured.NestedMap(object.Object, "data")
	if data == nil {
		data = map[string]any{}
	}
	data[keyBundle] = bundle.Text
	object.Object["data"] = data
	object.SetLabels(with(object.GetLabels(), labelCached, "true"))
	object.SetAnnotations(with(object.GetAnnotations(), annotationSince, string(text)))
	return m.write(ctx, object, "configmaps", create)
}

func with(values map[string]string, name, value string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, values)
	all[name] = value
	return all
}

func (m *CertificateManager) newObject(kind, name string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetAPIVersion("v1")
	object.SetKind(kind)
	object.SetName(name)
	object.SetNamespace(m.client.Namespace)
	object.SetLabels(map[string]string{labelManagedBy: "kyverno-notation-venafi-certmanager"})
	return object
}

func (m *CertificateManager) write(ctx context.Context, object *unstructured.Unstructured, resource string, create bool) error {
	if create {
		return m.create(ctx, object, resource)
	}
	if object.GetResourceVersion() == "" {
		return errors.New(resource + " " + object.GetName() + ": its version is unknown") // an update would overwrite anything
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := m.client.dynamic.Resource(coreV1(resource)).Namespace(m.client.Namespace).Update(ctx, object, metav1.UpdateOptions{FieldManager: fieldManager})
	return wrapped(err, resource, object)
}

func (m *CertificateManager) create(ctx context.Context, object *unstructured.Unstructured, resource string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := m.client.dynamic.Resource(coreV1(resource)).Namespace(m.client.Namespace).Create(ctx, object, metav1.CreateOptions{FieldManager: fieldManager})
	return wrapped(err, resource, object)
}

func wrapped(err error, resource string, object *unstructured.Unstructured) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", resource, object.GetName(), err)
}

// fieldManager is the name under which the API server knows what was written.
const fieldManager = "kyverno-notation-venafi"
