package config

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/config/commands"
)

// commandsFile lists every command that a document shows, and what runs it.
const commandsFile = "commands.txt"

var testName = regexp.MustCompile(`^(?:Test|Fuzz|Example)[A-Za-z0-9_]+$`)

// TestCommandsOfDocumentsAreRun holds that each command in a document is listed with what runs it: tests and make targets that exist, or
// the reason why a person has to.
func TestCommandsOfDocumentsAreRun(t *testing.T) {
	entries, err := commands.Read(commandsFile)
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	ci, err := os.ReadFile("../.ci/run")
	if err != nil {
		t.Fatal(err)
	}
	tests, _ := testFiles(t)
	listed := map[string]bool{}
	byHand := 0
	for _, entry := range entries {
		listed[entry.Command] = false
		if err := exists(entry.By, tests, string(makefile)); err != nil {
			t.Errorf("%s: %s: %v", commandsFile, entry.Command, err)
		}
		if strings.HasPrefix(entry.By, "by hand: ") {
			byHand++
		}
	}
	shown := 0
	err = eachREADME(os.DirFS(repository), func(name, document string) {
		for _, command := range commands.In(document) {
			shown++
			if _, ok := listed[command]; !ok && makes(command, string(ci)) {
				continue
			} else if !ok {
				t.Errorf("%s shows the command %q, which config/%s does not have", name, command, commandsFile)
			}
			listed[command] = true
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for command, found := range listed {
		if !found {
			t.Errorf("%s has the command %q, which no document shows", commandsFile, command)
		}
	}
	t.Logf("%d commands in documents, %d of the %d different ones by hand", shown, byHand, len(listed))
	if shown < 60 {
		t.Errorf("only %d commands were found", shown)
	}
}

// makes tells a command of make whose target the checks before a change run.
func makes(command, ci string) bool {
	target, ok := strings.CutPrefix(command, "make ")
	target, _, _ = strings.Cut(target, " ")
	return ok && regexp.MustCompile(`\bmake `+regexp.QuoteMeta(target)+`\b`).MatchString(ci)
}

// exists says why what is named does not exist; nil where it does.
func exists(by string, tests []string, makefile string) error {
	if reason, ok := strings.CutPrefix(by, "by hand: "); ok {
		if len(reason) < 10 {
			return fmt.Errorf("why by hand is not told: %q", by)
		}
		return nil
	}
	for _, one := range strings.Split(by, ", ") {
		target, isTarget := strings.CutPrefix(one, "make ")
		switch {
		case isTarget && strings.Contains(makefile, "\n"+target+":"):
		case testName.MatchString(one) && declared(tests, one, ""):
		default:
			return fmt.Errorf("there is no %q", one)
		}
	}
	return nil
}

// TestUnlistedCommandsAreFound shows what counts as a command.
func TestUnlistedCommandsAreFound(t *testing.T) {
	for text, want := range map[string][]string{
		"    kubectl apply -k x   # why\n":                           {"kubectl apply -k x"},
		"```sh\nmake run\n```\n":                                     {"make run"},
		"1. first:\n\n       helm test x\n":                          {"helm test x"},
		"    docker build \\\n      --push .\n":                      {"docker build --push ."},
		"    $ anything at all\n":                                    {"anything at all"},
		"    A=b GOFLAGS=-mod=mod func deploy\n":                     {"A=b GOFLAGS=-mod=mod func deploy"},
		"as `helm upgrade a b` and `helm test` do":                   {"helm upgrade a b"},
		"text with `kubectl apply`\n\nkubectl is a program\n":        nil,
		"    {\"a\": 1}\n    make\n":                                 nil,
		"```yaml\nhelm: x\nkind: y\n```\n":                           nil,
		"    go build x\n\ntext\n\n    not a command\n    curl -v x": {"go build x", "curl -v x"},
	} {
		if got := commands.In(text); !slices.Equal(got, want) {
			t.Errorf("%q: %q; want %q", text, got, want)
		}
	}
	if exists("TestThatDoesNotExist", nil, "") == nil || exists("make nothing", nil, "all:\n") == nil || exists("by hand: ", nil, "") == nil || exists("somehow", nil, "") == nil {
		t.Error("what does not exist runs a command")
	}
}
