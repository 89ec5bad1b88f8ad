package trust

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/samber/lo"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Bounds on what caBundleFrom names.
const (
	MaxBundle  = 1 << 20 // bytes of one bundle, as caBundle may have
	MaxBundles = 200     // bundles that all trust stores together may name
)

// BundleRef names a bundle of certificates: a key of a ConfigMap or Secret.
type BundleRef struct {
	Kind string // ConfigMap or Secret
	ObjectKey
}

// The kinds of objects that hold bundles.
const (
	ConfigMap = "ConfigMap"
	Secret    = "Secret"
)

// String is for sentences.
func (r BundleRef) String() string { return r.Kind + " " + r.Namespace + "/" + r.Name }

// Compare orders references.
func (r BundleRef) Compare(other BundleRef) int {
	return cmp.Or(strings.Compare(r.Kind, other.Kind), strings.Compare(r.Namespace, other.Namespace), strings.Compare(r.Name, other.Name), strings.Compare(r.Key, other.Key))
}

// Bundle is what was read of a bundle. The zero value is one that was not read yet.
type Bundle struct {
	Text    string // PEM
	Problem string // why there is none, after the name of the object: "does not exist"
}

// BundleOf takes the bundle from the data of an object. A key that is missing, empty or too long is a problem.
func BundleOf[V string | []byte](data map[string]V, key string) Bundle {
	switch value, ok := data[key]; {
	case !ok:
		return Bundle{Problem: fmt.Sprintf("has no key %q", key)}
	case len(value) == 0:
		return Bundle{Problem: fmt.Sprintf("has nothing under the key %q", key)}
	case len(value) > MaxBundle:
		return Bundle{Problem: fmt.Sprintf("has %d bytes under the key %q; at most %d are read", len(value), key, MaxBundle)}
	default:
		return Bundle{Text: string(value)}
	}
}

// BundleRef gives what caBundleFrom names; the zero value where it names nothing. The error says what is wrong with it.
func (r StoreResource) BundleRef() (BundleRef, error) {
	from := r.Spec.CABundleFrom
	var ref BundleRef
	switch {
	case from == nil:
		return ref, nil
	case (from.ConfigMap == nil) == (from.Secret == nil):
		return ref, errors.New("spec.caBundleFrom names neither or both of configMap and secret; name one")
	case from.ConfigMap != nil:
		ref = BundleRef{ConfigMap, *from.ConfigMap}
	default:
		ref = BundleRef{Secret, *from.Secret}
	}
	for _, part := range []struct {
		field, value string
		wrong        []string
	}{
		{"namespace", ref.Namespace, validation.IsDNS1123Label(ref.Namespace)},
		{"name", ref.Name, validation.IsDNS1123Subdomain(ref.Name)},
		{"key", ref.Key, validation.IsConfigMapKey(ref.Key)},
	} {
		if len(part.wrong) > 0 {
			return BundleRef{}, fmt.Errorf("spec.caBundleFrom: %q is no %s of a %s", reason.Clip(part.value, reason.MaxName), part.field, ref.Kind)
		}
	}
	return ref, nil
}

// BundleRefs lists the bundles that stores name, each once, in order.
func BundleRefs(stores []StoreResource) []BundleRef {
	var refs []BundleRef
	for _, store := range stores {
		if ref, err := store.BundleRef(); err == nil && ref != (BundleRef{}) {
			refs = append(refs, ref)
		}
	}
	slices.SortFunc(refs, BundleRef.Compare)
	return slices.Compact(refs)
}

// Resolved gives stores with the bundles that they name, which read gives.
func Resolved(stores []StoreResource, read func(BundleRef) Bundle) []StoreResource {
	return lo.Map(stores, func(store StoreResource, _ int) StoreResource {
		if ref, err := store.BundleRef(); err == nil && ref != (BundleRef{}) {
			store.Bundle = read(ref)
		}
		return store
	})
}

// bundle gives the text that caBundleFrom names.
func (r StoreResource) bundle() (string, error) {
	ref, err := r.BundleRef()
	switch {
	case err != nil:
		return "", err
	case r.Bundle.Problem != "":
		return "", fmt.Errorf("spec.caBundleFrom: %s %s", ref, r.Bundle.Problem)
	case r.Bundle.Text == "":
		return "", fmt.Errorf("spec.caBundleFrom: %s was not read yet", ref)
	}
	return r.Bundle.Text, nil
}

// manifest is a ConfigMap or Secret among the documents of files.
type manifest struct {
	kind, where string
	object      ObjectKey // without a key
	data        map[string][]byte
	unreadable  string // why the manifest could not be decoded; "" when it could
}

// parseManifest reads a ConfigMap or Secret. One that cannot be read matters where a trust store names it, and then is that
// store's problem.
func parseManifest(kind, where string, text []byte) resources {
	var head struct {
		Metadata struct{ Namespace, Name string } `json:"metadata"`
	}
	var body struct {
		Data       map[string]json.RawMessage `json:"data"`
		BinaryData map[string][]byte          `json:"binaryData"`
		StringData map[string]string          `json:"stringData"`
	}
	_ = json.Unmarshal(text, &head) // what has no name is named by nobody
	m := manifest{kind: kind, where: where, data: map[string][]byte{}, object: ObjectKey{Namespace: head.Metadata.Namespace, Name: head.Metadata.Name}}
	if err := json.Unmarshal(text, &body); err != nil {
		m.unreadable = err.Error()
	}
	for key, written := range body.Data {
		var err error
		if kind == ConfigMap {
			var value string
			err = json.Unmarshal(written, &value)
			m.data[key] = []byte(value)
		} else {
			var value []byte
			err = json.Unmarshal(written, &value)
			m.data[key] = value
		}
		if err != nil {
			m.unreadable = fmt.Sprintf("data %q: %v", key, err)
		}
	}
	for key, value := range body.StringData {
		m.data[key] = []byte(value)
	}
	for key, value := range body.BinaryData {
		m.data[key] = value
	}
	return resources{manifests: []manifest{m}}
}

// is tells whether two manifests are of one object.
func (m manifest) is(other manifest) bool { return m.kind == other.kind && m.object == other.object }

// bundleIn looks a bundle up among manifests; false where none is of the object.
func bundleIn(manifests []manifest, ref BundleRef) (Bundle, bool) {
	wanted := manifest{kind: ref.Kind, object: ObjectKey{Namespace: ref.Namespace, Name: ref.Name}}
	found := lo.Filter(manifests, func(m manifest, _ int) bool { return m.is(wanted) })
	switch {
	case len(found) == 0:
		return Bundle{}, false
	case len(found) > 1:
		return Bundle{Problem: fmt.Sprintf("is in %s and in %s; remove all but one", found[0].where, found[1].where)}, true
	case found[0].unreadable != "":
		return Bundle{Problem: fmt.Sprintf("in %s cannot be read: %s", found[0].where, bounded(found[0].unreadable))}, true
	}
	return BundleOf(found[0].data, ref.Key), true
}
