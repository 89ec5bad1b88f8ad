package main

import (
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

// TestFind finds the fuzz targets of tests, and of this module only.
func TestFind(t *testing.T) {
	text := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	targets, err := find(fstest.MapFS{
		"a/a_test.go":     text("package a\n\nfunc FuzzOne(f *testing.F) {\n}\nfunc FuzzTwo(fuzz *testing.F) {}\nfunc fuzzThree(f *testing.F) {}\n"),
		"a/a.go":          text("package a\nfunc FuzzNot(f *testing.F) {}\n"),
		"go.mod":          text("module x\n"),
		"other/go.mod":    text("module y\n"),
		"other/b_test.go": text("func FuzzOther(f *testing.F) {}\n"),
		".git/c_test.go":  text("func FuzzHidden(f *testing.F) {}\n"),
	})
	want := []target{{"a", "FuzzOne"}, {"a", "FuzzTwo"}}
	if err != nil || !reflect.DeepEqual(targets, want) {
		t.Errorf("%v, %v; want %v", targets, err, want)
	}
}

// TestReport sums up, and tells a failure in full.
func TestReport(t *testing.T) {
	var out strings.Builder
	report(&out, []outcome{{target: target{"a", "FuzzOne"}, executions: 10, corpus: 2}, {target: target{"a", "FuzzTwo"}, executions: 5, failure: "the input"}})
	for _, want := range []string{"a FuzzOne", "15", "1 failures", "A FAILURE", "a FuzzTwo:\nthe input"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
