package config

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryVersionHasAnUpgrade holds that the page of upgrades has a section for each version of the changelog, and no others.
func TestEveryVersionHasAnUpgrade(t *testing.T) {
	versions := func(file, pattern string) (all []string) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
			all = append(all, strings.TrimSpace(match[1]))
		}
		return all
	}
	changes := versions("../CHANGELOG.md", `(?m)^## \[([^\]]+)\]`)
	_, steps, found := strings.Cut(strings.Join(versions("UPGRADING.md", `(?m)^#{2,3} (.+)$`), "\n"), "By version\n")
	if !found || len(changes) == 0 || !slices.Equal(strings.Split(steps, "\n"), changes) {
		t.Errorf("the changelog has %q, and UPGRADING.md has %q", changes, steps)
	}
}
