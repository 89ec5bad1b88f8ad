package release

import (
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	classifier "github.com/google/licenseclassifier/v2"
	"github.com/google/licenseclassifier/v2/assets"
	"golang.org/x/mod/modfile"
)

// module is the path of the module that is released.
const module = "github.com/nirmata/kyverno-notation-venafi"

// Component is something that is in an image.
type Component struct {
	Name     string
	Version  string
	Sum      string   // of go.sum ("h1:..."), or "sha256:" and hexadecimal; "" for the standard library
	PURL     string   // https://github.com/package-url/purl-spec
	Licences []string // SPDX identifiers, sorted; none where it has no licence that is known
}

// linked is a package that the program is linked from, as go list prints it.
type linked struct {
	ImportPath, Dir string
	Standard        bool
	Module          *struct{ Path, Version, Dir string }
}

// Inventory lists the modules that a binary says it was built from, with the licences of the packages of each that were linked. The
// licences are read from files, from a package's folder up to its module's.
func Inventory(ctx context.Context, source Source, binary Binary) ([]Component, error) {
	files, err := licenceFiles(ctx, source, binary)
	if err != nil {
		return nil, err
	}
	known, err := assets.DefaultClassifier()
	if err != nil {
		return nil, err
	}
	var components []Component
	for _, dependency := range binary.Info.Deps {
		component := componentOf(dependency)
		if component.Licences, err = classify(known, files[dependency.Path]); err != nil {
			return nil, fmt.Errorf("licences of %s: %w", dependency.Path, err)
		}
		components = append(components, component)
	}
	others, err := foreign(binary)
	return append(components, others...), err
}

func componentOf(dependency *debug.Module) Component {
	if dependency.Replace != nil {
		dependency = dependency.Replace
	}
	return Component{
		Name: dependency.Path, Version: dependency.Version, Sum: dependency.Sum,
		PURL: "pkg:golang/" + dependency.Path + "@" + strings.ReplaceAll(dependency.Version, "+", "%2B"),
	}
}

//go:embed go.mod go.sum
var pins embed.FS

// foreign are what no module of the program tells of: the standard library, and the root certificates.
func foreign(binary Binary) ([]Component, error) {
	goVersion := strings.TrimPrefix(strings.Fields(binary.Info.GoVersion)[0], "go")
	roots, err := pinned("golang.org/x/crypto/x509roots/fallback")
	if err != nil {
		return nil, err
	}
	roots.Licences = []string{"BSD-3-Clause", "MPL-2.0"} // the module, and Mozilla's list in it
	return []Component{roots, {Name: "std", Version: goVersion, PURL: "pkg:golang/std@" + goVersion, Licences: []string{"BSD-3-Clause"}}}, nil
}

// pinned is a module that this one requires.
func pinned(path string) (Component, error) {
	text, err := pins.ReadFile("go.mod")
	if err != nil {
		return Component{}, err
	}
	requirements, err := modfile.ParseLax("go.mod", text, nil)
	if err != nil {
		return Component{}, err
	}
	sums, err := pins.ReadFile("go.sum")
	if err != nil {
		return Component{}, err
	}
	for _, requirement := range requirements.Require {
		_, sum, known := strings.Cut(string(sums), "\n"+requirement.Mod.Path+" "+requirement.Mod.Version+" ")
		if requirement.Mod.Path == path && known {
			sum, _, _ = strings.Cut(sum, "\n")
			return componentOf(&debug.Module{Path: path, Version: requirement.Mod.Version, Sum: sum}), nil
		}
	}
	return Component{}, fmt.Errorf("go.mod and go.sum do not pin %s", path)
}

// pluginComponent stands for the plugin, by its archive.
func pluginComponent(plugin *pluginArchive) Component {
	return Component{
		Name: "notation-venafi-csp", Version: "sha256:" + plugin.sum, Sum: "sha256:" + plugin.sum,
		PURL: "pkg:generic/notation-venafi-csp?checksum=sha256:" + plugin.sum + "&download_url=" + plugin.url, Licences: []string{"Apache-2.0"},
	}
}

// licenceFiles gives the files with licences by the path of the module.
func licenceFiles(ctx context.Context, source Source, binary Binary) (map[string][]string, error) {
	said, err := output(ctx, source.Dir, environment(binary.Platform), "go", "list", "-deps", "-json=ImportPath,Dir,Standard,Module", Program)
	if err != nil {
		return nil, err
	}
	files := map[string][]string{}
	for decoder := json.NewDecoder(strings.NewReader(said)); ; {
		var found linked
		if err := decoder.Decode(&found); errors.Is(err, io.EOF) {
			return files, nil
		} else if err != nil {
			return nil, err
		}
		if found.Standard || found.Module == nil || found.Module.Path == module {
			continue
		}
		for dir := found.Dir; strings.HasPrefix(dir, found.Module.Dir); dir = filepath.Dir(dir) {
			entries, err := os.ReadDir(dir)
			if err != nil {
				return nil, err
			}
			for _, entry := range entries {
				if path := filepath.Join(dir, entry.Name()); holdsLicence(entry) && !slices.Contains(files[found.Module.Path], path) {
					files[found.Module.Path] = append(files[found.Module.Path], path)
				}
			}
		}
	}
}

// holdsLicence tells by a file's name.
func holdsLicence(entry os.DirEntry) bool {
	name := strings.ToUpper(entry.Name())
	return entry.Type().IsRegular() && !strings.HasSuffix(name, ".GO") &&
		slices.ContainsFunc([]string{"LICENSE", "LICENCE", "COPYING", "UNLICENSE"}, func(word string) bool { return strings.HasPrefix(name, word) })
}

// taken says which licence is ours where a file offers a choice, by the file's SPDX expression. Any other expression is left to the texts.
var taken = map[string]string{"BSD-3-Clause OR GPL-2.0-only": "BSD-3-Clause"}

// offer finds the SPDX expression that a file says it is under.
var offer = regexp.MustCompile(`SPDX-License-Identifier: ([\w.+ -]*[\w.+])`)

// classify gives the licences whose text stands in files, or of those that a file offers the one that is taken.
func classify(known *classifier.Classifier, files []string) ([]string, error) {
	var found []string
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if offered := offer.FindSubmatch(text); offered != nil && taken[string(offered[1])] != "" {
			found = append(found, taken[string(offered[1])])
			continue
		}
		for _, match := range known.Match(text).Matches {
			if match.MatchType == "License" {
				found = append(found, match.Name)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// union lists the components of several lists once each, by name.
func union(lists ...[]Component) []Component {
	all := slices.Concat(lists...)
	slices.SortFunc(all, func(a, b Component) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version))
	})
	return slices.CompactFunc(all, func(a, b Component) bool { return a.PURL == b.PURL })
}
