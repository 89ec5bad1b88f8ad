package core_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const pictureFile = "../ARCHITECTURE.md"

// TestThePictureIsOfTheImports holds ARCHITECTURE.md against what the shipped command imports. Run it with -update, or make
// architecture, to draw it anew.
func TestThePictureIsOfTheImports(t *testing.T) {
	graph := importGraph(t)
	linked := map[string][]string{}
	for _, name := range reachable(graph, binary) {
		if within(name, module) {
			linked[name] = graph[name]
		}
	}
	page := pictureOf(linked, synopses(t))
	if *update {
		if err := os.WriteFile(pictureFile, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(pictureFile); err != nil || string(have) != page {
		t.Errorf("%s is not of the code (%v); run make architecture", pictureFile, err)
	}
}

func TestAnArrowThatFollowsFromOthersIsNotDrawn(t *testing.T) {
	arrows := drawn(map[string]map[string]bool{"function": {"shell/a": true, "core/x": true}, "shell/a": {"core/x": true, "core/y": true}, "core/y": {"core/x": true}})
	if want := []string{"core/y --> core/x", "function --> shell/a", "shell/a --> core/y"}; !slices.Equal(arrows, want) {
		t.Errorf("%q; want %q", arrows, want)
	}
}

func TestAPackageBelongsToARoomOfThePicture(t *testing.T) {
	for name, want := range map[string]string{
		module + "/core": "core", module + "/core/trust": "core/trust", module + "/shell/plugin/limits": "shell/plugin", module + "/function": "function",
		module + "/function/cmd/kyverno-notation-venafi": "function/cmd", module + "/function/cmd/internal/terminal": "function/cmd", module + "/function/console/x": "function", module: ".",
	} {
		if got := pictured(name); got != want {
			t.Errorf("%s is in %q; want %q", name, got, want)
		}
	}
}

// pictured gives the room of a package in the picture: a folder of the core or the shell, or one of the two parts of the function.
func pictured(name string) string {
	parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(name, module), "/"), "/")
	switch {
	case parts[0] == "":
		return "."
	case parts[0] == "function" && (len(parts) == 1 || parts[1] != "cmd"):
		return "function"
	}
	return strings.Join(parts[:min(len(parts), 2)], "/")
}

// pictureOf is the page: a diagram of the rooms, and what each does in the words of its package.
func pictureOf(graph map[string][]string, synopsis map[string]string) string {
	rooms := map[string]map[string]bool{}
	for name, imports := range graph {
		from := pictured(name)
		if rooms[from] == nil {
			rooms[from] = map[string]bool{}
		}
		for _, imported := range imports {
			if to := pictured(imported); within(imported, module) && to != from {
				rooms[from][to] = true
			}
		}
	}
	var page strings.Builder
	page.WriteString("# Architecture\n\nThe rooms of the program and who imports whom, drawn from the code: `make architecture`. An arrow that follows from others is left out, so the\n" +
		"[core](core/README.md), which only computes, is below all, and the [function](function/README.md), which wires and serves, above all; the\n" +
		"[shell](shell/README.md) between them touches the world. A test holds [which imports are allowed](core/arrows_test.go), and another that this picture is current.\n\n```mermaid\nflowchart TB\n")
	for _, part := range []string{"function", "shell", "core"} {
		fmt.Fprintf(&page, "  subgraph %s_[%s]\n", part, part)
		for _, room := range slices.Sorted(maps.Keys(rooms)) {
			if room == part || strings.HasPrefix(room, part+"/") {
				fmt.Fprintf(&page, "    %s[%s]\n", nodeOf(room), strings.TrimPrefix(room, part+"/"))
			}
		}
		page.WriteString("  end\n")
	}
	for _, arrow := range drawn(rooms) {
		from, to, _ := strings.Cut(arrow, " --> ")
		fmt.Fprintf(&page, "  %s --> %s\n", nodeOf(from), nodeOf(to))
	}
	page.WriteString("```\n\n| room | what its package says of it |\n|---|---|\n")
	for _, room := range slices.Sorted(maps.Keys(rooms)) {
		of := module + "/" + room
		if room == "function/cmd" {
			of = binary
		}
		says := synopsis[of]
		for _, opening := range []string{"Package " + room[strings.LastIndex(room, "/")+1:] + " ", "Command kyverno-notation-venafi "} {
			says = strings.TrimPrefix(says, opening)
		}
		fmt.Fprintf(&page, "| `%s` | %s |\n", room, strings.ReplaceAll(says, "|", `\|`))
	}
	return page.String()
}

// nodeOf is the name of a room in the diagram, where a slash has a meaning of its own.
func nodeOf(room string) string { return strings.NewReplacer("/", "_").Replace(room) }

// drawn lists the arrows between rooms but for those that follow from others.
func drawn(rooms map[string]map[string]bool) []string {
	plain := map[string][]string{}
	for room, to := range rooms {
		plain[room] = slices.Sorted(maps.Keys(to))
	}
	var arrows []string
	for _, from := range slices.Sorted(maps.Keys(plain)) {
		for _, to := range plain[from] {
			if !slices.ContainsFunc(plain[from], func(by string) bool { return by != to && slices.Contains(reachable(plain, by), to) }) {
				arrows = append(arrows, from+" --> "+to)
			}
		}
	}
	return arrows
}

// synopses gives the first sentence of each package's documentation.
func synopses(t *testing.T) map[string]string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.ImportPath}} {{.Doc}}", "./core/...", "./shell/...", "./function/...")
	command.Dir = ".."
	output, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(output)) {
		name, doc, _ := strings.Cut(strings.TrimSpace(line), " ")
		found[name] = doc
	}
	return found
}
