package function_test

import (
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/function"
)

// description is what these tests read of openapi.yaml; config/validate holds it against the specification.
type description struct {
	Paths      map[string]map[string]struct{ Responses map[string]any }
	Components struct{ Schemas map[string]apiSchema }
}

type apiSchema struct {
	Enum       []string
	Required   []string
	Properties map[string]struct {
		Items struct{ Properties map[string]any }
	}
}

func readDescription(t *testing.T) (d description) {
	t.Helper()
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestOpenAPIHasEveryRoute finds the routes in the source, as a mux does not list them.
func TestOpenAPIHasEveryRoute(t *testing.T) {
	source, err := os.ReadFile("http.go")
	if err != nil {
		t.Fatal(err)
	}
	var routes, described []string
	for _, match := range regexp.MustCompile(`mux\.Handle(?:Func)?\("(GET|POST) ([^"]*)"(?: ?\+ ?(path[A-Z]\w+))?`).FindAllStringSubmatch(string(source), -1) {
		path := match[2]
		if match[3] != "" {
			path += regexp.MustCompile(match[3] + `\s*= "([^"]+)"`).FindStringSubmatch(string(source))[1]
		}
		routes = append(routes, match[1]+" "+strings.TrimSuffix(path, "{$}"))
	}
	if unread := strings.Count(string(source), "mux.Handle") - len(routes); unread != 0 {
		t.Errorf("%d routes were not understood", unread)
	}
	for path, operations := range readDescription(t).Paths {
		for method := range operations {
			described = append(described, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(routes)
	slices.Sort(described)
	if !slices.Equal(routes, described) {
		t.Errorf("the handler has %q, openapi.yaml %q", routes, described)
	}
}

// TestOpenAPIHasEveryFieldAndCode compares the answers' fields with the Go types, and the codes with the list of all.
func TestOpenAPIHasEveryFieldAndCode(t *testing.T) {
	schemas := readDescription(t).Components.Schemas
	for name, c := range map[string]struct {
		properties []string
		typ        reflect.Type
	}{
		"Verdict": {slices.Collect(maps.Keys(schemas["Verdict"].Properties)), reflect.TypeFor[core.Verdict]()},
		"Result":  {slices.Collect(maps.Keys(schemas["Result"].Properties)), reflect.TypeFor[core.Result]()},
		"Patch":   {slices.Collect(maps.Keys(schemas["Patches"].Properties["results"].Items.Properties)), reflect.TypeFor[core.Patch]()},
	} {
		fields := jsonFields(c.typ)
		if name == "Verdict" {
			fields = append(fields, "decision") // of the answer
		}
		slices.Sort(fields)
		slices.Sort(c.properties)
		if !slices.Equal(fields, c.properties) {
			t.Errorf("%s: the type has %q, openapi.yaml %q", name, fields, c.properties)
		}
	}
	var codes []string
	for _, info := range reason.Codes() {
		codes = append(codes, string(info.Code))
	}
	if !slices.Equal(codes, schemas["Code"].Enum) {
		t.Errorf("the codes are %q, in openapi.yaml %q", codes, schemas["Code"].Enum)
	}
}

// TestOpenAPIHasEveryStatus demands of both paths each status that an error can have, and of /checkimages each that a
// verdict can have.
func TestOpenAPIHasEveryStatus(t *testing.T) {
	paths := readDescription(t).Paths
	for _, status := range function.ErrorStatuses() {
		for _, path := range []string{"/checkimages", "/verify"} {
			if paths[path]["post"].Responses[status] == nil {
				t.Errorf("%s: there is no %s", path, status)
			}
		}
	}
	for _, status := range function.VerdictStatuses() {
		if paths["/checkimages"]["post"].Responses[status] == nil {
			t.Errorf("/checkimages: there is no %s", status)
		}
	}
}

// jsonFields lists the names of a type's fields in JSON.
func jsonFields(typ reflect.Type) (names []string) {
	for field := range typ.Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}
