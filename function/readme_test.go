package function_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/function"
)

var update = flag.Bool("update", false, "write the README's tables")

// TestREADME keeps the tables of settings and of codes true.
func TestREADME(t *testing.T) {
	const path = "../README.md"
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := replaceTable(t, string(have), "settings", settingsTable(function.Fields()))
	want = replaceTable(t, want, "certificates", settingsTable(function.CertificateFields()))
	want = replaceTable(t, want, "codes", codesTable())
	if string(have) == want {
		return
	}
	if !*update {
		t.Fatal("the README's tables are not true; run go test ./function -run README -update")
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// replaceTable puts a table between the comments that mark its place.
func replaceTable(t *testing.T, text, name, table string) string {
	t.Helper()
	before, rest, found := strings.Cut(text, "<!-- "+name+":")
	comment, rest, foundComment := strings.Cut(rest, "-->\n")
	_, after, foundEnd := strings.Cut(rest, "<!-- end of "+name+" -->")
	if !found || !foundComment || !foundEnd {
		t.Fatalf("the README has no place for the table of %s", name)
	}
	return before + "<!-- " + name + ":" + comment + "-->\n\n" + table + "\n<!-- end of " + name + " -->" + after
}

func settingsTable(fields []*function.Field) string {
	var table strings.Builder
	table.WriteString("| flag | environment | default | meaning |\n|---|---|---|---|\n")
	for _, field := range fields {
		fallback := ""
		if field.Default != "" {
			fallback = "`" + field.Default + "`"
		}
		fmt.Fprintf(&table, "| `--%s` | `%s` | %s | %s |\n", field.Flag, field.Env, fallback, field.Help)
	}
	return table.String()
}

func codesTable() string {
	status := map[reason.Class]string{
		reason.Admitted: "admitted", reason.Denied: "denied (406)", reason.Failed: "failed (502)",
		reason.TimedOut: "out of time (504)", reason.Rejected: "refused (400, 413)",
	}
	var table strings.Builder
	table.WriteString("| code | outcome | meaning | what to do |\n|---|---|---|---|\n")
	for _, info := range reason.Codes() {
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", info.Code, status[info.Code.Class()], info.Meaning, info.Remedy)
	}
	return table.String()
}
