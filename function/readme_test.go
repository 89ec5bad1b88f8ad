package function_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/function"
)

var update = flag.Bool("update", false, "write the tables of the README")

// TestREADMETablesAreCurrent compares the tables of settings and codes with the code.
func TestREADMETablesAreCurrent(t *testing.T) {
	const path = "README.md"
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := replaceTable(t, string(have), "settings", settingsTable(function.Fields()))
	want = replaceTable(t, want, "certificates", settingsTable(function.CertificateFields()))
	want = replaceTable(t, want, "auditor", settingsTable(function.AuditorFields()))
	want = replaceTable(t, want, "console", settingsTable(function.ConsoleFields()))
	want = replaceTable(t, want, "codes", codesTable())
	if string(have) == want {
		return
	}
	if !*update {
		t.Fatal("the tables of function/README.md are not true; run go test ./function -run README -update")
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// otherFlags are flags in READMEs that are no settings: of check, audit, migrate, replay, trust and why, of the load generator, of what makes releases and of other tools.
var otherFlags = []string{"again", "records", "service", "tokenFile", "id", "vsa", "key", "verifier", "backgroundScanInterval", "backgroundScanWorkers", "attestation", "attestations", "seen", "partial", "open", "condition", "trustPolicy", "with", "without", "until", "timeout", "images", "exceptNamespaces", "namespaces", "url", "resource", "name", "registryDelay", "each", "build-arg", "set", "set-file", "level", "wide", "filename", "output", "push", "certificates", "builder", "fleetCallers"}

// quotedFlag is a flag at the beginning of code within a line, such as `--trustDir` or `--plainAddress=`.
var quotedFlag = regexp.MustCompile("`--([A-Za-z0-9-]+)")

// TestREADMEFlagsExist holds that the flags that READMEs name are settings or among otherFlags.
func TestREADMEFlagsExist(t *testing.T) {
	known := slices.Clone(otherFlags)
	for _, field := range slices.Concat(function.Fields(), function.CertificateFields(), function.AuditorFields(), function.ConsoleFields()) {
		known = append(known, field.Flag)
	}
	found := 0
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && path != "..":
			return filepath.SkipDir
		case entry.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		for _, match := range quotedFlag.FindAllStringSubmatch(string(text), -1) {
			found++
			if !slices.Contains(known, match[1]) {
				t.Errorf("%s: there is no setting --%s", path, match[1])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 100 {
		t.Errorf("READMEs name only %d flags", found)
	}
}

// replaceTable puts a table between the comments that mark its place.
func replaceTable(t *testing.T, text, name, table string) string {
	t.Helper()
	before, rest, found := strings.Cut(text, "<!-- "+name+":")
	comment, rest, foundComment := strings.Cut(rest, "-->\n")
	_, after, foundEnd := strings.Cut(rest, "<!-- end of "+name+" -->")
	if !found || !foundComment || !foundEnd {
		t.Fatalf("function/README.md has no place for the table of %s", name)
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
