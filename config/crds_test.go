package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the reference of the resources anew")

// crdField is a field of a resource, in the order of its definition.
type crdField struct {
	path        string // such as .spec.trustPolicies[].name
	typ         string // such as []string
	required    bool
	description string
	rules       []string // what else must hold: lengths, values, and the messages of its CEL rules
}

// readDefinition reads the fields of a definition's only version, and the description of the whole.
func readDefinition(t *testing.T, file string) (kind, description string, fields []crdField) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("crds", file))
	if err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	root := document.Content[0]
	versions := at(root, "spec", "versions")
	if len(versions.Content) != 1 {
		t.Fatalf("%s has %d versions, and the reference tells of one", file, len(versions.Content))
	}
	schema := at(versions.Content[0], "schema", "openAPIV3Schema")
	return at(root, "spec", "names", "kind").Value, at(schema, "description").Value, fieldsOf(schema, "")
}

// at gives a node below a mapping; an empty node where there is none.
func at(node *yaml.Node, path ...string) *yaml.Node {
	for _, key := range path {
		found := &yaml.Node{}
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == key {
				found = node.Content[i+1]
			}
		}
		node = found
	}
	return node
}

// fieldsOf lists the fields below a schema.
func fieldsOf(schema *yaml.Node, path string) (fields []crdField) {
	for at(schema, "type").Value == "array" {
		schema, path = at(schema, "items"), path+"[]"
	}
	required := map[string]bool{}
	for _, name := range at(schema, "required").Content {
		required[name.Value] = true
	}
	properties := at(schema, "properties").Content
	for i := 0; i+1 < len(properties); i += 2 {
		name, property := properties[i].Value, properties[i+1]
		fields = append(fields, crdField{
			path: path + "." + name, typ: typeOf(property), required: required[name],
			description: at(property, "description").Value, rules: rulesOf(property),
		})
		fields = append(fields, fieldsOf(property, path+"."+name)...)
	}
	return fields
}

// typeOf is a schema's type, as in Go.
func typeOf(schema *yaml.Node) string {
	switch typ := at(schema, "type").Value; {
	case typ == "array":
		return "[]" + typeOf(at(schema, "items"))
	case len(at(schema, "additionalProperties").Content) > 0:
		return "map[string]" + typeOf(at(schema, "additionalProperties"))
	case at(schema, "format").Value != "":
		return at(schema, "format").Value
	case typ == "":
		return "any"
	default:
		return typ
	}
}

// rulesOf are the bounds of a field, and of the elements in it that have no fields of their own.
func rulesOf(schema *yaml.Node) (rules []string) {
	for _, bound := range []struct{ keyword, says string }{
		{"default", "default `%s`"}, {"minLength", "at least %s characters"}, {"maxLength", "at most %s characters"}, {"minItems", "at least %s"},
		{"maxItems", "at most %s"}, {"maxProperties", "at most %s"},
	} {
		if value := at(schema, bound.keyword).Value; value != "" {
			rules = append(rules, fmt.Sprintf(bound.says, value))
		}
	}
	var values []string
	for _, value := range at(schema, "enum").Content {
		values = append(values, "`"+value.Value+"`")
	}
	if len(values) > 0 {
		rules = append(rules, "one of "+strings.Join(values, ", "))
	}
	for _, rule := range at(schema, "x-kubernetes-validations").Content {
		rules = append(rules, at(rule, "message").Value)
	}
	for _, below := range []string{"items", "additionalProperties"} {
		if inner := at(schema, below); len(inner.Content) > 0 {
			for _, rule := range rulesOf(inner) {
				rules = append(rules, "each: "+rule)
			}
		}
	}
	return rules
}

// definitions are the files of crds.
var definitions = []string{"trustpolicies.yaml", "truststores.yaml"}

// TestEveryFieldIsDescribed counts the fields that kubectl explain can tell something of.
func TestEveryFieldIsDescribed(t *testing.T) {
	for _, file := range definitions {
		kind, description, fields := readDefinition(t, file)
		if description == "" || len(fields) < 15 {
			t.Errorf("%s: the kind is described by %q, and has %d fields", kind, description, len(fields))
		}
		described := 0
		for _, field := range fields {
			if strings.HasSuffix(field.description, ".") || field.path == ".metadata" { // of which an API server takes no description
				described++
			} else {
				t.Errorf("%s%s is described by %q, which is no sentence", kind, field.path, field.description)
			}
		}
		t.Logf("%s: %d of %d fields are described", kind, described, len(fields))
	}
}

// TestTheReferenceIsOfTheDefinitions holds crds/README.md against the definitions. Run it with -update to write it anew.
func TestTheReferenceIsOfTheDefinitions(t *testing.T) {
	page := "# Reference of the trust resources\n\nMade from the definitions in this folder: `go test ./config -run Reference -update`. The same is told by `kubectl explain trustpolicy.spec`\n" +
		"and `kubectl explain truststore.spec`. [How they are used](../README.md#trust-resources), [examples](../samples/trust), and\n[how long versions are supported](../README.md#versions-of-the-resources).\n"
	for _, file := range definitions {
		kind, description, fields := readDefinition(t, file)
		page += "\n## " + kind + "\n\n" + description + "\n\n| field | type | meaning |\n|---|---|---|\n"
		for _, field := range fields {
			if field.path == ".metadata" {
				field.description = "Name, labels and annotations, as of every object."
			}
			if field.required {
				field.typ += ", required"
			}
			meaning := strings.Join(append([]string{field.description}, field.rules...), "<br>")
			page += fmt.Sprintf("| `%s` | %s | %s |\n", field.path, field.typ, strings.ReplaceAll(meaning, "|", `\|`))
		}
	}
	path := filepath.Join("crds", "README.md")
	if *update {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(path); err != nil || string(have) != page {
		t.Errorf("%s is not what the definitions give (%v); run go test ./config -run Reference -update", path, err)
	}
}
