package core_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/nirmata/kyverno-notation-venafi"

// computation is what the core may import beside the standard library: code that turns values into values.
var computation = []string{
	"github.com/blang/semver/v4",
	"github.com/distribution/reference",
	"github.com/gowebpki/jcs",    // canonical JSON (RFC 8785)
	"github.com/go-ldap/ldap/v3", // distinguished names, as Notation reads them
	"github.com/kyverno/go-jmespath",
	"github.com/opencontainers/go-digest",
	"github.com/samber/lo",
	"go.yaml.in/yaml/v3",          // keeps the lines of what it reads
	"golang.org/x/mod/sumdb/note", // signed notes, as transparency logs have them
	"gopkg.in/inf.v0",
	"k8s.io/apimachinery/pkg/api/resource",
	"sigs.k8s.io/json",
	"sigs.k8s.io/yaml",
}

// effects are the packages of the standard library that reach outside of a computation.
var effects = []string{
	"net", "os", "log", "syscall", "unsafe", "plugin", "database", "embed", "testing", "runtime",
	"math/rand", "crypto/rand", "sync", "context", "io/fs", "io/ioutil", "path/filepath", "html/template", "text/template", "expvar", "iter",
}

func TestCoreImportsNoEffects(t *testing.T) {
	for path, file := range sources(t, ".") {
		for _, imported := range imports(t, file) {
			if reason := forbidden(imported, path); reason != "" {
				t.Errorf("%s imports %s: %s", path, imported, reason)
			}
		}
		for _, effect := range effectsIn(file) {
			t.Errorf("%s: %s", path, effect)
		}
	}
}

func TestAllowedComputationIsUsed(t *testing.T) {
	used := map[string]bool{}
	for _, file := range sources(t, ".") {
		for _, imported := range imports(t, file) {
			used[imported] = true
		}
	}
	for _, library := range computation {
		if !used[library] {
			t.Errorf("nothing in the core imports %s any more; take it off the list", library)
		}
	}
}

func TestForbiddenImportsAreFound(t *testing.T) {
	tests := map[string]struct {
		imported, file string
		want           bool
	}{
		"the standard library computes":       {"strings", "plan.go", false},
		"the network is an effect":            {"net", "plan.go", true},
		"what is below the network is one":    {"net/http", "plan.go", true},
		"addresses are values":                {"net/netip", "plan.go", false},
		"randomness is an effect":             {"math/rand/v2", "plan.go", true},
		"math is not":                         {"math", "plan.go", false},
		"logging is an effect":                {"log/slog", "plan.go", true},
		"a library off the list":              {"github.com/acme/library", "plan.go", true},
		"a library on the list":               {"github.com/samber/lo", "plan.go", false},
		"Kyverno is imported nowhere":         {"github.com/kyverno/kyverno/pkg/engine/jmespath", "condition/function.go", true},
		"but for its expression language":     {"github.com/kyverno/go-jmespath", "condition/function.go", false},
		"which has a room":                    {"github.com/kyverno/go-jmespath", "plan.go", true},
		"conditions know nothing of the core": {module + "/core", "condition/types.go", true},
		"the core knows its leaves":           {module + "/core/reason", "plan.go", false},
		"and nothing of the shell":            {module + "/shell/cache", "plan.go", true},
		"nor do its leaves":                   {module + "/shell/cache", "trust/trust.go", true},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			if got := forbidden(tt.imported, tt.file); (got != "") != tt.want {
				t.Errorf("forbidden = %q, want forbidden %t", got, tt.want)
			}
		})
	}
}

func TestForbiddenCallsAreFound(t *testing.T) {
	tests := map[string]struct {
		body string
		want int
	}{
		"a computation has none":        {`_ = time.Second`, 0},
		"the clock":                     {`_ = time.Now()`, 1},
		"the clock as a value":          {`f := time.Now; _ = f`, 1},
		"the clock under another name":  {`_ = time.Since(time.Time{})`, 1},
		"a goroutine":                   {`go func() {}()`, 1},
		"a channel":                     {`_ = make(chan int)`, 1},
		"a select":                      {`select {}`, 1},
		"standard output":               {`fmt.Println()`, 1},
		"a print that the compiler has": {`println()`, 1},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nfunc f() {"+tt.body+"}", 0)
			if err != nil {
				t.Fatal(err)
			}
			if got := effectsIn(file); len(got) != tt.want {
				t.Errorf("effects = %q, want %d", got, tt.want)
			}
		})
	}
}

// forbidden says why a file of the core may not import a package; "" when it may.
func forbidden(imported, file string) string {
	kyverno := within(imported, "github.com/kyverno")
	switch {
	case imported == "net/netip", imported == "net/url": // addresses as values
		return ""
	case slices.ContainsFunc(effects, func(effect string) bool { return within(imported, effect) }):
		return "it has effects"
	case !strings.Contains(imported, "."):
		return ""
	case within(imported, module):
		return wrong(path.Join(module, "core", filepath.ToSlash(filepath.Dir(file))), imported)
	case !slices.Contains(computation, imported):
		return "it is not on the list of computations"
	case kyverno && filepath.Dir(file) != "condition" && filepath.Dir(file) != "migrate":
		return "Kyverno's language belongs to the packages condition and migrate"
	}
	return ""
}

func within(imported, parent string) bool {
	return imported == parent || strings.HasPrefix(imported, parent+"/")
}

// effectsIn lists what in a file is more than a computation.
func effectsIn(file *ast.File) []string {
	clock := []string{"time.Now", "time.Since", "time.Until", "time.Sleep", "time.After", "time.AfterFunc", "time.Tick", "time.NewTimer", "time.NewTicker", "fmt.Print", "fmt.Printf", "fmt.Println"}
	var found []string
	ast.Inspect(file, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.GoStmt:
			found = append(found, "starts a goroutine")
		case *ast.ChanType:
			found = append(found, "has a channel")
		case *ast.SelectStmt:
			found = append(found, "waits in a select")
		case *ast.SelectorExpr:
			if name := selector(n); slices.Contains(clock, name) {
				found = append(found, "uses "+name)
			}
		case *ast.CallExpr:
			if name, ok := n.Fun.(*ast.Ident); ok && strings.HasPrefix(name.Name, "print") {
				found = append(found, "prints")
			}
		}
		return true
	})
	return found
}

func selector(n *ast.SelectorExpr) string {
	if pkg, ok := n.X.(*ast.Ident); ok {
		return pkg.Name + "." + n.Sel.Name
	}
	return ""
}

// sources parses the files under a folder that are no tests.
func sources(t *testing.T, dir string) map[string]*ast.File {
	t.Helper()
	files := map[string]*ast.File{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if entry != nil && entry.IsDir() && path != dir && isModule(path) {
			return filepath.SkipDir
		}
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files[path], err = parser.ParseFile(token.NewFileSet(), path, nil, 0)
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("found %d files under %s: %v", len(files), dir, err)
	}
	return files
}

func imports(t *testing.T, file *ast.File) []string {
	t.Helper()
	paths := map[string]bool{}
	for _, spec := range file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths[path] = true
	}
	return slices.Sorted(maps.Keys(paths))
}

// isModule tells that a folder is a module of its own.
func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}
