package trust

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/samber/lo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// resources are the trust resources of files, with the problems of documents that could not be read.
type resources struct {
	policies []PolicyResource
	stores   []StoreResource
	problems []Problem
	passed   []Problem // documents that look like trust resources, and are of no kind or version that is read

	manifests []manifest // ConfigMaps and Secrets, which trust stores may name
}

func (r *resources) add(other resources) {
	r.policies = append(r.policies, other.policies...)
	r.stores = append(r.stores, other.stores...)
	r.problems = append(r.problems, other.problems...)
	r.passed = append(r.passed, other.passed...)
	r.manifests = append(r.manifests, other.manifests...)
}

// parseFile reads the documents of a YAML or JSON file. It skips other kinds of resources, and goes on after a document that
// cannot be read.
func parseFile(name string, data []byte) resources {
	var found resources
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for n := 1; ; n++ {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return found
		}
		where := fmt.Sprintf("%s, document %d", name, n)
		if err != nil {
			found.problems = append(found.problems, Problem{Kind: "file", Name: where, Reason: err.Error()})
			return found
		}
		text, err := yaml.YAMLToJSONStrict(document)
		if err != nil {
			found.problems = append(found.problems, Problem{Kind: "file", Name: where, Reason: err.Error()})
			continue
		}
		found.add(parseResource(where, text))
	}
}

func parseResource(where string, text []byte) resources {
	var kind metav1.TypeMeta
	if err := json.Unmarshal(text, &kind); err != nil {
		return resources{problems: []Problem{{Kind: "file", Name: where, Reason: "it is not a Kubernetes resource: " + err.Error()}}}
	}
	switch {
	case kind.Kind == "List", kind.APIVersion == GroupVersion && (kind.Kind == "TrustPolicyList" || kind.Kind == "TrustStoreList"):
		return parseList(where, text)
	case kind.APIVersion == GroupVersion && kind.Kind == "TrustPolicy":
		return parsePolicy(where, text)
	case kind.APIVersion == GroupVersion && kind.Kind == "TrustStore":
		return parseStore(where, text)
	case kind.APIVersion == "v1" && (kind.Kind == ConfigMap || kind.Kind == Secret):
		return parseManifest(kind.Kind, where, text)
	case strings.HasPrefix(kind.APIVersion, group) || kind.Kind == "TrustPolicy" || kind.Kind == "TrustStore":
		reason := fmt.Sprintf("it is %q of %q; trust resources are TrustPolicy and TrustStore of %s", kind.Kind, kind.APIVersion, GroupVersion)
		return resources{passed: []Problem{{Kind: "file", Name: where, Reason: reason}}}
	}
	return resources{}
}

const group = "notation.nirmata.io/"

func parseList(where string, text []byte) resources {
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return resources{problems: []Problem{{Kind: "file", Name: where, Reason: "its items cannot be read: " + err.Error()}}}
	}
	var found resources
	for i, item := range list.Items {
		found.add(parseResource(fmt.Sprintf("%s, item %d", where, i+1), item))
	}
	return found
}

// parsePolicy keeps a policy that has unknown fields or cannot be read as an unusable one, so that requests that name it
// get that error.
func parsePolicy(where string, text []byte) resources {
	var policy PolicyResource
	if err := strict(text, &policy); err != nil {
		policy.Unreadable = err.Error()
	}
	policy.Object = policy.Name
	policy.Name = lo.CoalesceOrEmpty(policy.Name, "without a name") + " in " + where
	return resources{policies: []PolicyResource{policy}}
}

func parseStore(where string, text []byte) resources {
	var store StoreResource
	if err := strict(text, &store); err != nil {
		store.Unreadable = err.Error()
	}
	store.Object = store.Name
	store.Name = lo.CoalesceOrEmpty(store.Name, "without a name") + " in " + where
	return resources{stores: []StoreResource{store}}
}

// strict decodes JSON, and refuses unknown and repeated fields by name.
func strict(text []byte, into any) error {
	unknown, err := kjson.UnmarshalStrict(text, into)
	if err != nil {
		return err
	}
	return errors.Join(unknown...)
}
