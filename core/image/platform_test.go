package image_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
)

func TestReadPlatforms(t *testing.T) {
	tests := map[string]struct{ written, list, err string }{
		"nothing is the index alone": {"", "", ""},
		"so is index":                {"index", "", ""},
		"all":                        {"all", "all", ""},
		"all of them, one of which must be there":       {"linux/amd64 all", "all,linux/amd64", ""},
		"each counts once, in order":                    {"linux/arm64 linux/amd64 linux/arm64/v8", "linux/amd64,linux/arm64", ""},
		"under the name that runtimes compare":          {"linux/x86_64 linux/aarch64 linux/armhf linux/armel linux/i386", "linux/386,linux/amd64,linux/arm,linux/arm/v6,linux/arm64", ""},
		"a variant that matters stays":                  {"linux/amd64/v3", "linux/amd64/v3", ""},
		"index stands alone":                            {"index linux/amd64", "", "stands alone"},
		"an operating system is no platform":            {"linux", "", `names "linux"`},
		"capitals are none of any":                      {"Linux/amd64", "", "names"},
		"nor are four parts":                            {"linux/arm/v7/x", "", "names"},
		"nor is a wildcard":                             {"linux/*", "", "names"},
		"what is not run cannot be chosen":              {"unknown/unknown", "", "is no platform"},
		"a long name is not repeated as a whole":        {"linux/" + strings.Repeat("a", 100000), "", "names"},
		"more names than anyone builds for are refused": {strings.Join(many(33), " "), "", "names 33 platforms"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			read, err := image.ReadPlatforms(strings.Fields(test.written))
			if (err != nil) != (test.err != "") || err != nil && (!strings.Contains(err.Error(), test.err) || len(err.Error()) > 300) {
				t.Fatalf("%v; want %q", err, test.err)
			}
			if read.String() != test.list {
				t.Errorf("%s; want %s", read, test.list)
			}
			again, err := image.ReadPlatforms(read.List())
			if err != nil || again.String() != read.String() {
				t.Errorf("its list is read as %s, %v", again, err)
			}
		})
	}
}

func many(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint("linux/cpu", i))
	}
	return names
}

func TestPlatformsOfAnIndex(t *testing.T) {
	tests := map[string]struct {
		chosen  string
		listed  []string // os/architecture/variant as an index has them
		verify  []string
		missing string
	}{
		"none":                         {"", []string{"linux/amd64"}, nil, ""},
		"all, but for what is not run": {"all", []string{"linux/amd64", "unknown/unknown", "windows/amd64"}, []string{"linux/amd64", "windows/amd64"}, ""},
		"one of them":                  {"linux/amd64", []string{"linux/amd64", "linux/arm64"}, []string{"linux/amd64"}, ""},
		"every variant of one":         {"linux/amd64", []string{"linux/amd64/v1", "linux/amd64/v3"}, []string{"linux/amd64/v1", "linux/amd64/v3"}, ""},
		"and what has no variant, which runs on every":     {"linux/amd64/v3", []string{"linux/amd64", "linux/amd64/v2", "linux/amd64/v3"}, []string{"linux/amd64", "linux/amd64/v3"}, ""},
		"under another name":                               {"linux/amd64", []string{"Linux/X86_64"}, []string{"Linux/X86_64"}, ""},
		"twice, since a runtime takes one or the other":    {"linux/amd64", []string{"linux/amd64", "linux/amd64"}, []string{"linux/amd64", "linux/amd64"}, ""},
		"without a platform, since it may be run on any":   {"linux/amd64", []string{"linux/amd64", "//", "/amd64"}, []string{"linux/amd64", "//", "/amd64"}, ""},
		"which does not stand for one that is not there":   {"linux/amd64", []string{"//"}, []string{"//"}, "linux/amd64"},
		"one that is not there":                            {"linux/amd64 linux/s390x", []string{"linux/amd64"}, []string{"linux/amd64"}, "linux/s390x"},
		"a variant that is not there":                      {"linux/arm/v6", []string{"linux/arm/v7"}, []string{"linux/arm/v7"}, "linux/arm/v6"},
		"an unknown architecture of a known system counts": {"all", []string{"linux/unknown"}, []string{"linux/unknown"}, ""},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			chosen, err := image.ReadPlatforms(strings.Fields(test.chosen))
			if err != nil {
				t.Fatal(err)
			}
			var listed []image.Platform
			var verify []string
			for _, name := range test.listed {
				parts := append(strings.Split(name, "/"), "")
				platform := image.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
				listed = append(listed, platform)
				if chosen.Choose(platform) {
					verify = append(verify, name)
				}
			}
			if !slices.Equal(verify, test.verify) {
				t.Errorf("chosen are %q; want %q", verify, test.verify)
			}
			var missing []string
			for _, platform := range chosen.Missing(listed) {
				missing = append(missing, platform.String())
			}
			if strings.Join(missing, " ") != test.missing {
				t.Errorf("missing are %q; want %q", missing, test.missing)
			}
		})
	}
}

// TestAChoiceOnlyGrows holds that a request takes nothing away from a statement.
func TestAChoiceOnlyGrows(t *testing.T) {
	choices := []string{"", "index", "all", "linux/amd64", "linux/amd64 linux/arm64", "all linux/s390x"}
	platforms := []image.Platform{{}, {OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}, {OS: "windows", Architecture: "amd64"}, {OS: "linux", Architecture: "s390x"}}
	for _, one := range choices {
		for _, two := range choices {
			a, _ := image.ReadPlatforms(strings.Fields(one))
			b, _ := image.ReadPlatforms(strings.Fields(two))
			both := a.With(b)
			for _, platform := range platforms {
				if want := a.Choose(platform) || b.Choose(platform); both.Choose(platform) != want {
					t.Errorf("%q with %q chooses %s: %t", one, two, platform, !want)
				}
			}
			if both.String() != b.With(a).String() {
				t.Errorf("%q with %q is %s, and the other way %s", one, two, both, b.With(a))
			}
			if len(both.Missing(nil)) < max(len(a.Missing(nil)), len(b.Missing(nil))) {
				t.Errorf("%q with %q misses less than one of them", one, two)
			}
		}
	}
}
