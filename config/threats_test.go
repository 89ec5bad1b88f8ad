package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// threatRow is a row of the threat model: who, what they would like, what stops them, and the tests that hold it.
var threatRow = regexp.MustCompile(`^\| *(pusher|signer|tenant|network|registry|plugin|API user|keeper of logs|cache server) *\|[^|]*\|[^|]*\|([^|]*)\|$`)

// named is what the last column may name: a test or fuzz target, with the sentence of one of its cases, or a golden case.
var named = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`(?:/`([^`]+)`)?|`([a-z0-9-]+\\.txtar)`")

// TestEveryThreatNamesATestThatExists holds the threat model against the tests of the repository: a line that no test
// holds, or whose test was renamed or lost its case, fails.
func TestEveryThreatNamesATestThatExists(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, golden := testFiles(t)
	rows := 0
	for line := range strings.Lines(string(text)) {
		row := threatRow.FindStringSubmatch(strings.TrimSpace(line))
		if row == nil {
			continue
		}
		rows++
		names := named.FindAllStringSubmatch(row[2], -1)
		if len(names) == 0 {
			t.Errorf("no test is named in: %s", line)
		}
		for _, name := range names {
			if name[3] != "" && !slices.Contains(golden, name[3]) || name[1] != "" && !declared(tests, name[1], name[2]) {
				t.Errorf("there is no %s", name[0])
			}
		}
	}
	if rows < 40 {
		t.Errorf("the threat model has %d rows that are understood; who has to be one of those in threatRow", rows)
	}
}

// TestTheTableOfVersionsNamesItsSource: each cell about a version of Kyverno names a test that exists, or where it was read.
func TestTheTableOfVersionsNamesItsSource(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, _ := testFiles(t)
	rows := regexp.MustCompile(`(?m)^\| (1\.[^|]*) \|([^|]*)\|([^|]*)\|$`).FindAllStringSubmatch(string(text), -1)
	if len(rows) < 3 {
		t.Errorf("the table has %d rows that are understood", len(rows))
	}
	for _, row := range rows {
		for _, cell := range row[2:] {
			names := named.FindAllStringSubmatch(cell, -1)
			if len(names) == 0 && !strings.Contains(cell, "read: ") && !regexp.MustCompile(`(as|tests of) 1\.`).MatchString(cell) {
				t.Errorf("Kyverno %s: no source is named in: %s", row[1], cell)
			}
			for _, name := range names {
				if !declared(tests, name[1], name[2]) {
					t.Errorf("there is no %s", name[0])
				}
			}
		}
	}
}

// testFiles reads the Go tests of the repository, and lists its golden cases.
func testFiles(t *testing.T) (tests, golden []string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != "..":
			return filepath.SkipDir
		case strings.HasSuffix(path, ".txtar"):
			golden = append(golden, filepath.Base(path))
		case strings.HasSuffix(path, "_test.go"):
			text, err := os.ReadFile(path)
			tests = append(tests, string(text))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests, golden
}

// declared tells whether a file declares a test and, where one is named, has the sentence of its case.
func declared(files []string, test, sentence string) bool {
	return slices.ContainsFunc(files, func(text string) bool {
		return strings.Contains(text, "\nfunc "+test+"(") && strings.Contains(text, sentence)
	})
}
