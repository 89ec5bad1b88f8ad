package validate

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// valueColumns is how wide the comments of values.yaml are.
const valueColumns = 120

// chartValue is a value of the chart, or a group of values, in the order of the schema.
type chartValue struct {
	path        []string
	description string
	initial     *yaml.Node // the default; nil for a group
}

func (v chartValue) name() string { return v.path[len(v.path)-1] }

// chartValues reads the schema, which says all that is known of values.
func chartValues(t *testing.T) (values []chartValue) {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal(read(t, "chart", "values.schema.json"), &document); err != nil {
		t.Fatal(err)
	}
	var walk func(schema *yaml.Node, path []string)
	walk = func(schema *yaml.Node, path []string) {
		properties := member(schema, "properties")
		if properties == nil {
			return
		}
		for i := 0; i+1 < len(properties.Content); i += 2 {
			property := properties.Content[i+1]
			value := chartValue{path: append(path[:len(path):len(path)], properties.Content[i].Value), initial: member(property, "default")}
			if description := member(property, "description"); description != nil {
				value.description = description.Value
			}
			values = append(values, value)
			walk(property, value.path)
		}
	}
	walk(document.Content[0], nil)
	return values
}

// member is a field of a mapping, nil where there is none.
func member(mapping *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// TestValuesAreDescribed demands a sentence of every value and group, and a default of every value.
func TestValuesAreDescribed(t *testing.T) {
	all := chartValues(t)
	for i, value := range all {
		group := i+1 < len(all) && len(all[i+1].path) > len(value.path)
		if !strings.HasSuffix(value.description, ".") {
			t.Errorf("%s is described by %q, which is no sentence", strings.Join(value.path, "."), value.description)
		}
		if group == (value.initial != nil) {
			t.Errorf("%s: a value has a default, and a group has values", strings.Join(value.path, "."))
		}
	}
	if len(all) < 50 {
		t.Errorf("only %d values were found", len(all))
	}
	t.Logf("%d values and groups are described", len(all))
}

// TestValuesAreThoseOfTheSchema holds values.yaml against the schema. Run it with -update to write it anew.
func TestValuesAreThoseOfTheSchema(t *testing.T) {
	var text strings.Builder
	text.WriteString("# Made from values.schema.json: go -C config/validate test -run Values -update\n#\n" +
		"# With these values the chart gives config/install.yaml, and with knative.enabled config/knative.yaml, but for the image's tag\n" +
		"# and labels. What is not named here is an error.\n")
	for _, value := range chartValues(t) {
		if value.name() == "global" {
			continue
		}
		indent := strings.Repeat("  ", len(value.path)-1)
		if indent == "" {
			text.WriteString("\n")
		}
		for _, line := range wrapped(value.description, valueColumns-len(indent)-2) {
			text.WriteString(indent + "# " + line + "\n")
		}
		text.WriteString(indent + value.name() + ":" + initial(t, value.initial, indent) + "\n")
	}
	golden(t, filepath.Join(configDir, "chart", "values.yaml"), []byte(text.String()))
}

// initial is what stands behind the colon of a value.
func initial(t *testing.T, node *yaml.Node, indent string) string {
	t.Helper()
	if node == nil {
		return ""
	}
	if node.Kind != yaml.MappingNode || len(node.Content) == 0 {
		return " " + inline(t, node)
	}
	text := ""
	for i := 0; i+1 < len(node.Content); i += 2 {
		text += "\n" + indent + "  " + node.Content[i].Value + ":" + initial(t, node.Content[i+1], indent+"  ")
	}
	return text
}

// inline is a default on one line, as YAML where its spelling allows.
func inline(t *testing.T, node *yaml.Node) string {
	t.Helper()
	clear := *node
	if clear.Kind == yaml.ScalarNode && clear.Value != "" {
		clear.Style = 0
	}
	for _, element := range clear.Content {
		element.Style = 0
	}
	text, err := yaml.Marshal(&clear)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// wrapped breaks a text into lines of so many columns.
func wrapped(text string, columns int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > columns {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}

// TestValuesAreInTheChartsREADME holds the table of the chart's README against the schema. Run it with -update to write it anew.
func TestValuesAreInTheChartsREADME(t *testing.T) {
	const begin, end = "-run Values -update` -->\n", "\n<!-- end of values -->"
	path := filepath.Join(configDir, "chart", "README.md")
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(have), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatal("the README has no table of values")
	}
	table := "\n| value | default | meaning |\n|---|---|---|\n"
	for _, value := range chartValues(t) {
		shown := ""
		if value.initial != nil {
			var decoded any
			if err := value.initial.Decode(&decoded); err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(decoded)
			if err != nil {
				t.Fatal(err)
			}
			shown = "`" + string(text) + "`"
		}
		table += fmt.Sprintf("| `%s` | %s | %s |\n", strings.Join(value.path, "."), shown, strings.ReplaceAll(value.description, "|", `\|`))
	}
	golden(t, path, []byte(before+begin+table+end+after))
}
