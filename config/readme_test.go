package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"
)

// repository is the repository's root.
const repository = ".."

// maxReadme bounds the README at the root, bytes: details belong into the README of the folder that they are about.
const maxReadme = 10_000

var (
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	codeSpan     = regexp.MustCompile("``.+?``|`[^`]+`")
	heading      = regexp.MustCompile(`^#{1,6} +(.+?) *$`)
	makeTarget   = regexp.MustCompile("(?m)(?:^ *|`)make ([a-z0-9-]+)")
	ownPath      = regexp.MustCompile(`(?:^|[\s` + "`" + `=])(?:\./)?((?:adversary|config|core|e2e|function|shell|simulation|testdata)/[A-Za-z0-9_/.-]*[A-Za-z0-9])`)
	excerptOf    = regexp.MustCompile(`(?i)excerpt of\s+\[[^]]+\]\(([^)\s]+)\)`)
)

func TestTheREADMEIsShort(t *testing.T) {
	text, err := fs.ReadFile(os.DirFS(repository), "README.md")
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > maxReadme {
		t.Errorf("README.md has %d bytes; at most %d. Move details into the README of their folder", len(text), maxReadme)
	}
}

// TestREADMELinks: every relative link and anchor of every README leads somewhere.
func TestREADMELinks(t *testing.T) {
	broken, checked, err := brokenLinks(os.DirFS(repository))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range broken {
		t.Error(link)
	}
	if checked < 50 {
		t.Errorf("only %d relative links were found", checked)
	}
}

// TestBrokenLinksAreFound shows that TestREADMELinks can fail.
func TestBrokenLinksAreFound(t *testing.T) {
	const target = "# One `word`: two\n\ntext\n\n## Twice\n\n## Twice\n\n```\n# not a heading\n```\n\n    # nor this\n"
	for name, test := range map[string]struct {
		text   string
		broken int
	}{
		"a file":                              {"[x](other/README.md)", 0},
		"a folder":                            {"[x](other)", 0},
		"a link around code":                  {"[`x`](other/README.md)", 0},
		"an anchor of another file":           {"[x](other/README.md#one-word-two)", 0},
		"the second heading of one text":      {"[x](other/README.md#twice-1)", 0},
		"an anchor of the file itself":        {"# Here\n\n[x](#here)", 0},
		"another site":                        {"[x](https://example.com/none#none)", 0},
		"what only looks like a link":         {"`[x](none.md)`\n\n    [x](none.md)\n\n```\n[x](none.md)\n```", 0},
		"a file that does not exist":          {"[x](other/none.md)", 1},
		"a link around code to nowhere":       {"[`x`](none.md)", 1},
		"an anchor that does not exist":       {"[x](other/README.md#none)", 1},
		"an anchor in other letters":          {"[x](other/README.md#Twice)", 1},
		"an anchor of a line of code":         {"[x](other/README.md#not-a-heading)", 1},
		"an anchor of an indented line":       {"[x](other/README.md#nor-this)", 1},
		"a third heading where there are two": {"[x](other/README.md#twice-2)", 1},
		"an anchor of a folder":               {"[x](other#twice)", 1},
		"an anchor of itself":                 {"[x](#none)", 1},
		"a path from the root":                {"[x](/other/README.md)", 1},
		"a path out of the repository":        {"[x](../README.md)", 1},
		"two in a line":                       {"[x](none.md) and [y](gone.md)", 2},
	} {
		t.Run(name, func(t *testing.T) {
			broken, _, err := brokenLinks(fstest.MapFS{"README.md": {Data: []byte(test.text)}, "other/README.md": {Data: []byte(target)}})
			if err != nil || len(broken) != test.broken {
				t.Errorf("found %q, %v; want %d", broken, err, test.broken)
			}
		})
	}
}

// TestREADMECommands: the make targets, and the files and folders of the repository, that READMEs name in code exist.
func TestREADMECommands(t *testing.T) {
	repo := os.DirFS(repository)
	makefile, err := fs.ReadFile(repo, "Makefile")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	err = eachREADME(repo, func(name, text string) {
		for _, match := range makeTarget.FindAllStringSubmatch(code(text), -1) {
			found["target"]++
			if !strings.Contains(string(makefile), "\n"+match[1]+":") {
				t.Errorf("%s: the Makefile has no target %s", name, match[1])
			}
		}
		for _, match := range ownPath.FindAllStringSubmatch(code(text), -1) {
			found["path"]++
			if _, err := fs.Stat(repo, match[1]); err != nil {
				t.Errorf("%s: there is no %s", name, match[1])
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if found["target"] < 10 || found["path"] < 20 {
		t.Errorf("READMEs name only %v", found)
	}
}

// TestREADMEExcerpts: the code under "excerpt of" a file has only lines of that file, in its order.
func TestREADMEExcerpts(t *testing.T) {
	repo, found := os.DirFS(repository), 0
	err := eachREADME(repo, func(name, text string) {
		for _, match := range excerptOf.FindAllStringSubmatchIndex(text, -1) {
			found++
			file := path.Join(path.Dir(name), text[match[2]:match[3]])
			source, err := fs.ReadFile(repo, file)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if line, ok := missingLine(excerpt(text[match[1]:]), string(source)); !ok {
				t.Errorf("%s: %s does not have the line %q there", name, file, line)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 2 {
		t.Errorf("READMEs have only %d excerpts", found)
	}
}

// TestTheREADMEsDenial: a golden case answers with the line that the README shows, but for digests and the container's name.
func TestTheREADMEsDenial(t *testing.T) {
	repo := os.DirFS(repository)
	text, err := fs.ReadFile(repo, "README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## A denial\n")
	lines := excerpt(section)
	cases, err := fs.Glob(repo, "testdata/golden/*.txtar")
	if err != nil || len(lines) != 1 || len(cases) == 0 {
		t.Fatalf("%d lines of a denial, %d golden cases, %v", len(lines), len(cases), err)
	}
	lines[0] = regexp.MustCompile(` \(decision [0-9A-Z]{26}\)$`).ReplaceAllString(lines[0], "") // which function adds
	digest, container := regexp.MustCompile(`sha256:[0-9a-f]{64}`), regexp.MustCompile(`\bcontainer [a-z0-9]+:`)
	if !slices.ContainsFunc(cases, func(name string) bool {
		golden, err := fs.ReadFile(repo, name)
		text := container.ReplaceAllString(digest.ReplaceAllString(string(golden), "sha256:..."), "container web:")
		return err == nil && strings.Contains(text, "\n"+lines[0]+"\n")
	}) {
		t.Errorf("no golden case answers %q", lines[0])
	}
}

// brokenLinks lists the relative links in the Markdown files of a repository that lead nowhere, and counts all.
func brokenLinks(repo fs.FS) (broken []string, checked int, err error) {
	err = eachREADME(repo, func(name, text string) {
		for _, match := range markdownLink.FindAllStringSubmatch(codeSpan.ReplaceAllString(prose(text), ""), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			checked++
			if err := resolve(repo, name, match[1]); err != nil {
				broken = append(broken, fmt.Sprintf("%s: the link %s leads nowhere: %v", name, match[1], err))
			}
		}
	})
	return broken, checked, err
}

// resolve looks up a link of a file.
func resolve(repo fs.FS, from, link string) error {
	target, anchor, hasAnchor := strings.Cut(link, "#")
	file := from
	switch {
	case strings.HasPrefix(target, "/"):
		return errors.New("it is not relative")
	case target != "":
		file = path.Join(path.Dir(from), target)
	}
	if _, err := fs.Stat(repo, file); err != nil || !hasAnchor {
		return err
	}
	text, err := fs.ReadFile(repo, file)
	if err != nil {
		return err
	}
	if !slices.Contains(anchors(string(text)), anchor) {
		return fmt.Errorf("%s has no such heading", file)
	}
	return nil
}

// anchors are those that GitHub makes of the headings of a text.
func anchors(text string) (all []string) {
	seen := map[string]int{}
	for line := range strings.Lines(prose(text)) {
		match := heading.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if match == nil {
			continue
		}
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, match[1])
		n := seen[anchor]
		seen[anchor]++
		if n > 0 {
			anchor = fmt.Sprintf("%s-%d", anchor, n)
		}
		all = append(all, anchor)
	}
	return all
}

// prose is a text without its blocks of code, fenced or indented; code is those blocks and the code within lines.
func prose(text string) string { outside, _ := split(text); return outside }

func code(text string) string {
	outside, blocks := split(text)
	return blocks + strings.Join(codeSpan.FindAllString(outside, -1), "\n")
}

func split(text string) (outside, blocks string) {
	var prose, code strings.Builder
	fenced := false
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case fenced || strings.HasPrefix(line, "    "):
			code.WriteString(line)
		default:
			prose.WriteString(line)
		}
	}
	return prose.String(), code.String()
}

// excerpt is the first indented block of a text, line by line and without indentation.
func excerpt(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "    ") {
			lines = append(lines, strings.TrimSpace(line))
		} else if len(lines) > 0 {
			return lines
		}
	}
	return lines
}

// missingLine gives the first line of an excerpt that the source does not have after those before it.
func missingLine(lines []string, source string) (string, bool) {
	rest := strings.Split(source, "\n")
	for _, line := range lines {
		at := slices.IndexFunc(rest, func(candidate string) bool { return strings.TrimSpace(candidate) == line })
		if at < 0 {
			return line, false
		}
		rest = rest[at+1:]
	}
	return "", len(lines) > 0
}

// eachREADME visits the Markdown files of a repository.
func eachREADME(repo fs.FS, visit func(name, text string)) error {
	return fs.WalkDir(repo, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && name != "." && name != ".github":
			return fs.SkipDir
		case entry.IsDir() || path.Ext(name) != ".md":
			return nil
		}
		text, err := fs.ReadFile(repo, name)
		if err == nil {
			visit(name, string(text))
		}
		return err
	})
}
