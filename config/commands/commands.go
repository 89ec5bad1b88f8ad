// Package commands finds the shell commands that documents show, so that tests run what a reader would type, and not a copy of it.
package commands

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// programs are those that a line of code in a document begins with where it is a command; "$ " ahead of it says so of any other.
var programs = []string{
	"kubectl", "helm", "make", "go", "func", "docker", "buildah", "podman", "curl", "openssl", "notation", "oras", "cosign", "git", "apt-get", "sudo", "cd", "export",
	"kustomize", "krew", "jq", "sha256sum", "./knv", "knv", "kyverno-notation-venafi", "crane", "ko", "kind", "minikube", "gh", "syft", "trivy", "tar", "skopeo", "source",
}

var (
	assignment = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*=\S* `)
	remark     = regexp.MustCompile(`\s+# .*$`)
	codeSpan   = regexp.MustCompile("``.+?``|`[^`]+`")
)

// In lists the commands in the code of a document: in blocks that are fenced or indented, also in a list, and within lines from
// three words on, as fewer only name a command.
func In(document string) (commands []string) {
	fenced, joined := false, ""
	for line := range strings.Lines(document) {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "```") {
			fenced = !fenced
			continue
		}
		if !fenced && !strings.HasPrefix(line, "    ") {
			joined = ""
			for _, span := range codeSpan.FindAllString(line, -1) {
				if command, ok := commandOf(strings.TrimSpace(strings.Trim(span, "`"))); ok && len(strings.Fields(command)) > 2 {
					commands = append(commands, command)
				}
			}
			continue
		}
		if part, goesOn := strings.CutSuffix(trimmed, `\`); goesOn {
			joined += strings.TrimSpace(part) + " "
			continue
		}
		trimmed, joined = joined+trimmed, ""
		if command, ok := commandOf(trimmed); ok {
			commands = append(commands, command)
		}
	}
	return commands
}

// commandOf gives the command of a line of code.
func commandOf(line string) (string, bool) {
	command, prompted := strings.CutPrefix(line, "$ ")
	command = remark.ReplaceAllString(command, "")
	bare := command
	for assignment.MatchString(bare) {
		bare = assignment.ReplaceAllString(bare, "")
	}
	first, _, several := strings.Cut(bare, " ")
	return command, prompted || several && slices.Contains(programs, first) && !strings.HasSuffix(first, ":")
}

// Entry is a line of commands.txt.
type Entry struct {
	Command string
	By      string // names of tests, make targets, or "by hand: " and why
}

// Read reads commands.txt.
func Read(path string) (entries []Entry, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		command, by, found := strings.Cut(line, " => ")
		if !found || slices.ContainsFunc(entries, func(e Entry) bool { return e.Command == command }) {
			return nil, fmt.Errorf("%s: %q names nothing that runs it, or stands twice", path, line)
		}
		entries = append(entries, Entry{Command: command, By: by})
	}
	return entries, nil
}
