package validate

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	_ "github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif" // whose source has the schema of OASIS
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// sarifSchema reads the schema of SARIF 2.1.0, errata 01, out of the source of a library, which keeps it to itself.
func sarifSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif").Output()
	if err != nil {
		t.Fatal(err)
	}
	source, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "schema.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	ast.Inspect(source, func(node ast.Node) bool {
		if literal, ok := node.(*ast.BasicLit); ok && literal.Kind == token.STRING && len(literal.Value) > len(text) {
			text = literal.Value
		}
		return true
	})
	if text, err = strconv.Unquote(text); err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	const at = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	if err := compiler.AddResource(at, document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile(at)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// TestAuditsSARIFIsValid holds the golden files of the commands audit and check against the schema, and shows that it can refuse them.
func TestAuditsSARIFIsValid(t *testing.T) {
	schema := sarifSchema(t)
	files, err := filepath.Glob("../../function/cmd/kyverno-notation-venafi/testdata/[ac]*/*.sarif")
	if err != nil || len(files) < 5 {
		t.Fatalf("files %q, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for old, changed := range map[string]string{"": "", `"driver"`: `"drivers"`, `"2.1.0"`: `"2.1"`, `"version"`: `"unknown": 1, "version"`} {
			document, err := jsonschema.UnmarshalJSON(bytes.NewReader(bytes.Replace(text, []byte(old), []byte(changed), 1)))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(document); (err == nil) != (old == changed) {
				t.Errorf("%s with %q as %q: %v", file, old, changed, err)
			}
		}
	}
}
