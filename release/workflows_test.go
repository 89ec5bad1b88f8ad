package release

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rhysd/actionlint"
	"sigs.k8s.io/yaml"
)

// workflow is what of a workflow is held against our rules.
type workflow struct {
	Permissions map[string]string `json:"permissions"`
	On          any               `json:"on"`
	Jobs        map[string]struct {
		RunsOn      string            `json:"runs-on"`
		Timeout     int               `json:"timeout-minutes"`
		Permissions map[string]string `json:"permissions"`
		Strategy    struct {
			Matrix struct {
				Target []string `json:"target"`
			} `json:"matrix"`
		} `json:"strategy"`
		Steps []struct {
			Uses string         `json:"uses"`
			Run  string         `json:"run"`
			With map[string]any `json:"with"`
		} `json:"steps"`
	} `json:"jobs"`
}

func workflowFiles(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("../.github/workflows/*")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) < 6 {
		t.Fatalf("only %q were found", paths)
	}
	return paths
}

func TestWorkflowsPassActionlint(t *testing.T) {
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	problems, err := linter.LintFiles(workflowFiles(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Error(problem)
	}
}

func TestWorkflowsKeepTheRules(t *testing.T) {
	for _, path := range workflowFiles(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, broken := range brokenRules(text) {
				t.Error(broken)
			}
		})
	}
}

var (
	usesLine   = regexp.MustCompile(`(?m)^\s*(?:- )?uses: *(.*)$`)
	pinnedUse  = regexp.MustCompile(`^[\w.-]+/[\w./-]+@[0-9a-f]{40} # v[0-9]+\.[0-9]+\.[0-9]+$`)
	expression = regexp.MustCompile(`\$\{\{.*?\}\}`)
)

// brokenRules says which rules a workflow breaks.
func brokenRules(text []byte) (broken []string) {
	for _, use := range usesLine.FindAllStringSubmatch(string(text), -1) {
		if !pinnedUse.MatchString(use[1]) {
			broken = append(broken, "an action is not named by commit and version: "+use[1])
		}
	}
	var w workflow
	if err := yaml.Unmarshal(text, &w); err != nil {
		return append(broken, err.Error())
	}
	if w.Permissions == nil || len(w.Permissions) > 0 {
		broken = append(broken, "the workflow does not begin with no permissions")
	}
	for name, job := range w.Jobs {
		if job.Timeout < 1 || job.Timeout > 360 {
			broken = append(broken, name+" has no time limit")
		}
		if job.Permissions == nil {
			broken = append(broken, name+" does not say its permissions")
		}
		if !regexp.MustCompile(`-[0-9]+\.[0-9]+$`).MatchString(job.RunsOn) {
			broken = append(broken, name+" runs on any version of a system")
		}
		for _, step := range job.Steps {
			if expression.MatchString(step.Run) {
				broken = append(broken, name+" puts an expression into a script, where its content would run: "+step.Run)
			}
			if strings.HasPrefix(step.Uses, "actions/checkout@") && step.With["persist-credentials"] != false {
				broken = append(broken, name+" leaves its credentials in the checkout")
			}
		}
	}
	if strings.Contains(string(text), "pull_request_target") {
		broken = append(broken, "the code of strangers would run with our rights")
	}
	slices.Sort(broken)
	return broken
}

func TestBrokenRulesAreFound(t *testing.T) {
	const good = `permissions: {}
jobs:
  a:
    runs-on: ubuntu-24.04
    timeout-minutes: 5
    permissions: {contents: read}
    steps:
    - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1
      with: {persist-credentials: false}
    - run: make
`
	if broken := brokenRules([]byte(good)); broken != nil {
		t.Fatalf("the good one breaks %q", broken)
	}
	for name, change := range map[string][2]string{
		"an action by tag":                  {"@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "@v7"},
		"a commit without its version":      {" # v7.0.1", ""},
		"a short commit":                    {"3d3c42e5aac5ba805825da76410c181273ba90b1", "3d3c42e"},
		"no permissions said":               {"permissions: {}\n", ""},
		"permissions for all jobs":          {"permissions: {}", "permissions: {contents: write}"},
		"all permissions":                   {"permissions: {}", "permissions: write-all"},
		"a job without permissions":         {"    permissions: {contents: read}\n", ""},
		"a job without time limit":          {"    timeout-minutes: 5\n", ""},
		"the newest system, whichever":      {"ubuntu-24.04", "ubuntu-latest"},
		"credentials left in the checkout":  {"persist-credentials: false", "fetch-depth: 0"},
		"a title in a script":               {"run: make", "run: echo ${{ github.event.pull_request.title }}"},
		"a pull request with all our right": {"jobs:", "on: pull_request_target\njobs:"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(good, change[0], change[1], 1)
			if changed == good || brokenRules([]byte(changed)) == nil {
				t.Error("it is not found")
			}
		})
	}
}

// TestWorkflowsMakeWhatThereIs holds that the targets of make which workflows name exist.
func TestWorkflowsMakeWhatThereIs(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	command, found := regexp.MustCompile(`\bmake ([a-z0-9-]+)`), 0
	for _, path := range workflowFiles(t) {
		var w workflow
		text, err := os.ReadFile(path)
		if err == nil {
			err = yaml.Unmarshal(text, &w)
		}
		if err != nil {
			t.Fatal(err)
		}
		for name, job := range w.Jobs {
			targets := slices.Clone(job.Strategy.Matrix.Target)
			for _, step := range job.Steps {
				for _, match := range command.FindAllStringSubmatch(step.Run, -1) {
					targets = append(targets, match[1])
				}
			}
			found += len(targets)
			for _, target := range targets {
				if !strings.Contains(string(makefile), "\n"+target+":") {
					t.Errorf("%s, %s: there is no make %s", filepath.Base(path), name, target)
				}
			}
		}
	}
	if found < 8 {
		t.Errorf("only %d targets were found", found)
	}
}

// TestDependabotKnowsAllModules, and no other.
func TestDependabotKnowsAllModules(t *testing.T) {
	text, err := os.ReadFile("../.github/dependabot.yml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Updates []struct {
			Ecosystem   string   `json:"package-ecosystem"`
			Directory   string   `json:"directory"`
			Directories []string `json:"directories"`
		} `json:"updates"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	var told, ecosystems []string
	for _, update := range config.Updates {
		ecosystems = append(ecosystems, update.Ecosystem)
		if update.Ecosystem == "gomod" {
			told = update.Directories
		}
	}
	if !slices.Contains(ecosystems, "github-actions") || !slices.Contains(ecosystems, "docker") {
		t.Errorf("it updates %q", ecosystems)
	}
	said, err := output(t.Context(), "..", nil, "git", "ls-files", "go.mod", "**/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var modules []string
	for _, path := range strings.Fields(said) {
		if !strings.HasPrefix(path, "e2e/tools/") { // which are versions of other projects, chosen to fit each other
			modules = append(modules, filepath.Clean("/"+filepath.Dir(path)))
		}
	}
	slices.Sort(modules)
	slices.Sort(told)
	if !slices.Equal(told, modules) {
		t.Errorf("dependabot knows %q, of %q", told, modules)
	}
}
