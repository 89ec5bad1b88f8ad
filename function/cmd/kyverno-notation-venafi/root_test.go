package main

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestHelp compares the help of every command with its golden file.
func TestHelp(t *testing.T) {
	root := newRoot(program, helpWidth)
	seen := 0
	for _, command := range below(root) {
		path := strings.Fields(command.CommandPath())[1:]
		if len(path) > 0 && (path[0] == "completion" || path[0] == "help") { // cobra's
			continue
		}
		seen++
		file := filepath.Join("testdata", "help", strings.Join(append([]string{"root"}, path...), "-")+".txt")
		t.Run(command.CommandPath(), func(t *testing.T) {
			var got, failed strings.Builder
			if status := run(program, append(path, "-h"), &got, &failed); status != 0 || failed.Len() > 0 {
				t.Fatalf("status %d, %s", status, &failed)
			}
			if flag.Lookup("update").Value.String() == "true" {
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || got.String() != string(want) {
				t.Errorf("%v; got\n%s\nwant\n%s", err, &got, want)
			}
			for line := range strings.Lines(got.String()) {
				if len(line) > 150 && strings.Contains(strings.TrimSpace(line), " ") { // a word stays whole
					t.Errorf("a line of %d columns: %s", len(line), line)
				}
			}
		})
	}
	if seen < 13 {
		t.Errorf("only %d commands", seen)
	}
}

// TestCommandsHaveTheirOwnFlagsOnly: a person who verifies an image is not shown how the service drains.
func TestCommandsHaveTheirOwnFlagsOnly(t *testing.T) {
	for command, absent := range map[string][]string{
		"check": {"drainDelay", "tlsSecret", "caDuration", "audit"}, "why": {"plainAddress", "imagePullSecrets"},
		"version": {"trustDir"}, "probe": {"trustDir"}, "records verify": {"trustDir", "pluginDir"}, "certmanager": {"drainDelay"},
	} {
		var help strings.Builder
		run(program, append(strings.Fields(command), "-h"), &help, io.Discard)
		for _, name := range absent {
			if strings.Contains(help.String(), "--"+name+" ") {
				t.Errorf("%s has the flag --%s", command, name)
			}
		}
	}
}

// TestShippedArguments holds that the commands take what the manifests and the chart give them.
func TestShippedArguments(t *testing.T) {
	found := 0
	for _, file := range []string{"../../../config/install.yaml", "../../../config/knative.yaml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for document := range strings.SplitSeq(string(text), "\n---\n") {
			var object struct {
				Kind string
				Spec struct {
					Template struct {
						Spec struct {
							Containers []struct{ Args []string }
						}
					}
				}
			}
			if err := yaml.Unmarshal([]byte(document), &object); err != nil {
				t.Fatal(err)
			}
			for _, container := range object.Spec.Template.Spec.Containers {
				found++
				accepts(t, container.Args)
			}
		}
	}
	if found < 4 {
		t.Errorf("only %d containers", found)
	}
	accepts(t, []string{"certmanager", "--drainDelay", "0s", "--tlsAddress", ":1"}) // those of serve
	accepts(t, nil)
	accepts(t, []string{"--trustDir", "x"})
	accepts(t, []string{"-trustDir", "x", "-cacheEnabled=false"}) // as up to now
	accepts(t, []string{"audit", "--f", "file", "-o=json", "-with", "-", "-with=b"})
}

func accepts(t *testing.T, args []string) {
	t.Helper()
	root := newRoot(program, helpWidth)
	mended, err := arguments(root, args, io.Discard)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	command, rest, err := root.Find(mended)
	if err == nil {
		err = command.ParseFlags(rest)
	}
	if err != nil || command == root {
		t.Errorf("%s: %q: %v", command.CommandPath(), args, err)
	}
	if left := command.Flags().Args(); len(left) > 0 {
		t.Errorf("%q leaves %q", args, left)
	}
}

// TestWrongCommandLines are answered with one sentence that says how to go on.
func TestWrongCommandLines(t *testing.T) {
	for sentence, test := range map[string]struct {
		args []string
		want string
	}{
		"a command that is mistyped":         {[]string{"chek", "--trustPolicy", "x"}, `error: unknown command "chek"; did you mean check?`},
		"one that is nothing":                {[]string{"frobnicate"}, `error: unknown command "frobnicate"; run kyverno-notation-venafi -h for its commands`},
		"one that steers the terminal":       {[]string{"\x1b[2Jx"}, `error: unknown command "\x1b[2Jx"; run kyverno-notation-venafi -h for its commands`},
		"a command below another":            {[]string{"records", "verfy"}, `error: unknown command "verfy"; did you mean verify?`},
		"none below it":                      {[]string{"records"}, `error: name a command of kyverno-notation-venafi records: verify, vsa`},
		"a flag of another style":            {[]string{"check", "--trust-dir", "x"}, `error: kyverno-notation-venafi check has no flag --trust-dir; did you mean --trustDir?`},
		"a flag of another command":          {[]string{"check", "--drainDelay=1s"}, `error: kyverno-notation-venafi check has no flag --drainDelay; it is one of serve`},
		"a flag that is nothing":             {[]string{"check", "--frobnicate"}, `error: kyverno-notation-venafi check has no flag --frobnicate; run kyverno-notation-venafi check -h for its flags`},
		"a letter that is nothing":           {[]string{"check", "-z"}, `error: kyverno-notation-venafi check has no flag -z; run kyverno-notation-venafi check -h for its flags`},
		"a flag that steers the terminal":    {[]string{"check", "--\x1b[2J"}, `error: kyverno-notation-venafi check has no flag -- [2J; run kyverno-notation-venafi check -h for its flags`},
		"a flag without its value":           {[]string{"check", "--trustDir"}, `error: --trustDir needs a value; run kyverno-notation-venafi check -h`},
		"a value of another kind":            {[]string{"check", "--requestTimeout", "8"}, `error: --requestTimeout: "8": time: missing unit in duration "8"`},
		"a format that there is not":         {[]string{"check", "-o", "xml", "x"}, `error: --output is "xml"; use table, json, yaml, sarif, junit`},
		"an argument for one that has none":  {[]string{"serve", "x"}, `error: kyverno-notation-venafi serve takes no arguments, but got ["x"]`},
		"an argument where there is default": {[]string{"--trustDir", "x", "check"}, `error: kyverno-notation-venafi serve takes no arguments, but got ["check"]`},
	} {
		t.Run(sentence, func(t *testing.T) {
			var stdout, stderr strings.Builder
			status := run(program, test.args, &stdout, &stderr)
			if status != 2 || stdout.Len() > 0 || stderr.String() != test.want+"\n" {
				t.Errorf("status %d, %q, want\n%q; and %q", status, stderr.String(), test.want, stdout.String())
			}
		})
	}
}

// TestOneDashWarns, in one line.
func TestOneDashWarns(t *testing.T) {
	var stderr strings.Builder
	mended, err := arguments(newRoot(program, helpWidth), []string{"check", "-trustDir", "-x", "-o", "json", "--condition", "-trustPolicy", "--", "-trustPolicy"}, &stderr)
	want := []string{"check", "--trustDir", "-x", "-o", "json", "--condition", "-trustPolicy", "--", "-trustPolicy"}
	if err != nil || !slices.Equal(mended, want) || stderr.String() != "warning: write --trustDir with two dashes; one dash is deprecated\n" {
		t.Errorf("%q, %v, %q", mended, err, &stderr)
	}
}

// TestCompletionScripts are there for four shells, for the name that the program has.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		var script, failed strings.Builder
		if status := run("knv", []string{"completion", shell}, &script, &failed); status != 0 || !strings.Contains(script.String(), "__complete") || !strings.Contains(script.String(), "knv") {
			t.Errorf("%s: status %d, %s%.200s", shell, status, &failed, &script)
		}
	}
	for line, want := range map[string]string{
		"check --trustD": "--trustDir\t", "check -o ": "sarif\n", "recor": "records\t", "records v": "vsa\t",
	} {
		args := strings.SplitAfter(line, " ")
		for i := range args {
			args[i] = strings.TrimSuffix(args[i], " ")
		}
		var offered strings.Builder
		if status := run("knv", append([]string{"__complete"}, args...), &offered, io.Discard); status != 0 || !strings.Contains(offered.String(), want) {
			t.Errorf("%q: status %d, %q", line, status, &offered)
		}
	}
}

// TestAsPluginOfKubectl is called by the name that kubectl looks for.
func TestAsPluginOfKubectl(t *testing.T) {
	for line, want := range map[string]string{
		"":                "Usage:\n  kubectl knv COMMAND",
		"audit -h":        "Usage:\n  kubectl knv audit",
		"check -h":        "\n  kubectl knv check -f deployment.yaml",
		"--trustDir x":    "error: name the command ahead of its flags, such as kubectl knv check",
		"check --trust-d": "error: kubectl knv check has no flag --trust-d",
	} {
		var said strings.Builder
		run("kubectl-knv", strings.Fields(line), &said, &said)
		if !strings.Contains(said.String(), want) || strings.Contains(said.String(), "kubectl-knv") || strings.Contains(said.String(), "certmanager  ") {
			t.Errorf("%q: %s", line, &said)
		}
	}
}
