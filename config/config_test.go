// Package config holds the manifests; these tests hold them against the code.
package config

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// schema is what the test reads of an OpenAPI schema.
type schema struct {
	Type                 string            `json:"type"`
	Properties           map[string]schema `json:"properties"`
	AdditionalProperties *schema           `json:"additionalProperties"`
	Items                *schema           `json:"items"`
	Required             []string          `json:"required"`
}

// definition is what the test reads of a CustomResourceDefinition.
type definition struct {
	Spec struct {
		Group    string `json:"group"`
		Scope    string `json:"scope"`
		Versions []struct {
			Name   string `json:"name"`
			Schema struct {
				OpenAPIV3Schema schema `json:"openAPIV3Schema"`
			} `json:"schema"`
		} `json:"versions"`
	} `json:"spec"`
}

func TestTheDefinitionsAreThoseOfTheGoTypes(t *testing.T) {
	for file, resource := range map[string]any{"trustpolicies": shelltrust.PolicyResource{}, "truststores": shelltrust.StoreResource{}} {
		text, err := os.ReadFile(filepath.Join("crds", file+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var crd definition
		if err := yaml.Unmarshal(text, &crd); err != nil {
			t.Fatal(err)
		}
		version := crd.Spec.Versions[0]
		if got := crd.Spec.Group + "/" + version.Name; got != shelltrust.GroupVersion || crd.Spec.Scope != "Cluster" {
			t.Errorf("%s: %s, scope %s", file, got, crd.Spec.Scope)
		}
		compare(t, file, version.Schema.OpenAPIV3Schema, reflect.TypeOf(resource))
	}
}

// raw are the types of fields that the Go types keep as they are written.
var raw = map[string]reflect.Type{
	"trustpolicies.spec.appliesTo": reflect.TypeFor[struct {
		NamespaceSelector metav1.LabelSelector `json:"namespaceSelector"`
		Attestations      []struct {
			ImageReference string                         `json:"imageReference"`
			Type           []verification.AttestationType `json:"type"`
		} `json:"attestations"`
	}](),
}

// compare walks a schema and a Go type at once.
func compare(t *testing.T, path string, have schema, want reflect.Type) {
	t.Helper()
	for want.Kind() == reflect.Pointer {
		want = want.Elem()
	}
	if written, ok := raw[path]; ok {
		want = written
	}
	switch {
	case want == reflect.TypeFor[metav1.ObjectMeta](): // the API server's own
	case want == reflect.TypeFor[json.RawMessage](): // any JSON
		same(t, path, have.Type, "")
	case want == reflect.TypeFor[metav1.Time](), want.Kind() == reflect.String:
		same(t, path, have.Type, "string")
	case want.Kind() == reflect.Int64:
		same(t, path, have.Type, "integer")
	case want.Kind() == reflect.Slice && have.Items != nil:
		same(t, path, have.Type, "array")
		compare(t, path+"[]", *have.Items, want.Elem())
	case want.Kind() == reflect.Map && have.AdditionalProperties != nil:
		same(t, path, have.Type, "object")
		compare(t, path+"{}", *have.AdditionalProperties, want.Elem())
	case want.Kind() == reflect.Struct:
		same(t, path, have.Type, "object")
		fields := jsonFields(want)
		same(t, path, strings.Join(slices.Sorted(maps.Keys(have.Properties)), " "), strings.Join(slices.Sorted(maps.Keys(fields)), " "))
		for name, field := range fields {
			compare(t, path+"."+name, have.Properties[name], field)
		}
	default:
		t.Errorf("%s: the schema's type is %q, Go's is %s", path, have.Type, want)
	}
}

func same(t *testing.T, path, have, want string) {
	t.Helper()
	if have != want {
		t.Errorf("%s: the schema has %q, Go has %q", path, have, want)
	}
}

// jsonFields gives the types of a struct's fields by their JSON names.
func jsonFields(of reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for field := range of.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case options == "inline":
			maps.Copy(fields, jsonFields(field.Type))
		case name != "-" && field.IsExported():
			fields[name] = field.Type
		}
	}
	return fields
}

func TestTheTrustSamplesCanBeUsed(t *testing.T) {
	var log strings.Builder
	files, err := shelltrust.OpenFiles("samples", slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})), func() {})
	if err != nil {
		t.Fatal(err)
	}
	snapshot, _ := files.Snapshot()
	stores := map[string]bool{}
	for ref := range snapshot.Stores {
		stores[ref.String()] = true
	}
	for name, policy := range snapshot.Policies {
		for _, statement := range policy.Statements {
			for _, wanted := range statement.TrustStores {
				if !stores[wanted] {
					t.Errorf("policy %s names %s, which is no sample", name, wanted)
				}
			}
		}
	}
	if log.Len() > 0 || len(snapshot.Policies) != 2 || len(snapshot.Stores) != 1 {
		t.Errorf("%d policies, %d stores\n%s", len(snapshot.Policies), len(snapshot.Stores), log.String())
	}
}

// TestTheAttestationSampleIsUnderstood passes on what the sample has Kyverno send, its keys without the escape.
func TestTheAttestationSampleIsUnderstood(t *testing.T) {
	text, err := os.ReadFile("samples/clusterpolicy-attestations.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Spec struct {
			Rules []struct {
				Context []struct {
					APICall struct {
						Data []struct {
							Key   string `json:"key"`
							Value any    `json:"value"`
						} `json:"data"`
					} `json:"apiCall"`
				} `json:"context"`
			} `json:"rules"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &policy); err != nil {
		t.Fatal(err)
	}
	body := map[string]any{}
	for _, entry := range policy.Spec.Rules[0].Context[0].APICall.Data {
		body[entry.Key] = entry.Value
	}
	body["encodedObject"] = []byte(`{"kind":"Pod","spec":{"containers":[{"name":"web","image":"ghcr.io/acme/app:v1"}]}}`)
	sent, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	sent = bytes.ReplaceAll(sent, []byte(`{{ request.operation }}`), []byte("CREATE"))
	request, err := core.ParseRequest(bytes.ReplaceAll(sent, []byte(`\\{{`), []byte("{{")))
	if err != nil || len(request.Attestations) == 0 {
		t.Errorf("%v: %s", err, sent)
	}
}
