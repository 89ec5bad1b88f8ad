package image

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Platform is the platform of a manifest in an index (OCI image specification, section "Image Index Property Descriptions").
// The zero value is for a manifest of which the index does not say it.
type Platform struct {
	OS           string `json:"os,omitzero"`
	Architecture string `json:"architecture,omitzero"`
	Variant      string `json:"variant,omitzero"`
}

// aliases are other names of architectures, by which container runtimes find a manifest too, with the variant that they stand for.
var aliases = map[string]Platform{
	"i386":    {Architecture: "386"},
	"x86_64":  {Architecture: "amd64"},
	"x86-64":  {Architecture: "amd64"},
	"aarch64": {Architecture: "arm64"},
	"armhf":   {Architecture: "arm", Variant: "v7"},
	"armel":   {Architecture: "arm", Variant: "v6"},
}

// Canonical gives the platform with the names that container runtimes compare: in lower case, without aliases, and without the
// variant that an architecture has where none is named. A manifest under another name must not be run unverified.
func (p Platform) Canonical() Platform {
	p = Platform{OS: strings.ToLower(p.OS), Architecture: strings.ToLower(p.Architecture), Variant: strings.ToLower(p.Variant)}
	if p.OS == "macos" {
		p.OS = "darwin"
	}
	if alias, ok := aliases[p.Architecture]; ok {
		p.Architecture = alias.Architecture
		if alias.Variant != "" {
			p.Variant = alias.Variant
		}
	}
	if len(p.Variant) == 1 && p.Variant >= "0" && p.Variant <= "9" {
		p.Variant = "v" + p.Variant
	}
	switch p.Architecture + "/" + p.Variant {
	case "amd64/v1", "arm64/v8", "arm/v7":
		p.Variant = ""
	}
	return p
}

// Unknown tells whether a manifest is for no platform at all: so builders list what describes an image and is not run, such as
// BuildKit's attestation manifests.
func (p Platform) Unknown() bool {
	return strings.EqualFold(p.OS, "unknown") && strings.EqualFold(p.Architecture, "unknown")
}

// Open tells whether a runtime may take the manifest for its platform, whatever that is, since the index does not say all of it.
func (p Platform) Open() bool { return p.OS == "" || p.Architecture == "" }

// String is the platform as os/architecture/variant.
func (p Platform) String() string {
	switch {
	case p == Platform{}:
		return "any platform"
	case p.Variant == "":
		return p.OS + "/" + p.Architecture
	}
	return p.OS + "/" + p.Architecture + "/" + p.Variant
}

// covers tells whether a chosen platform is that of a manifest. Without a variant it is every variant.
func (p Platform) covers(of Platform) bool {
	return p.OS == of.OS && p.Architecture == of.Architecture && (p.Variant == "" || p.Variant == of.Variant)
}

// What platforms say beside the names of some.
const (
	indexOnly = "index"
	allOfThem = "all"
)

// maxPlatforms bounds the platforms that are chosen by name.
const maxPlatforms = 32

var platformName = regexp.MustCompile(`^[a-z0-9_.-]{1,32}/[a-z0-9_.-]{1,32}(/[a-z0-9_.-]{1,32})?$`)

// Platforms says which manifests of an index are verified beside the index itself. The zero value is none.
type Platforms struct {
	all   bool
	named []Platform // canonical, in order, each once
}

// ReadPlatforms reads a list: "index" alone, or "all" and platforms such as "linux/amd64".
func ReadPlatforms(written []string) (Platforms, error) {
	var p Platforms
	for _, name := range written {
		switch {
		case name == indexOnly && len(written) > 1:
			return Platforms{}, errors.New(`has "index" beside others; it stands alone`)
		case name == indexOnly:
		case name == allOfThem:
			p.all = true
		case !platformName.MatchString(name):
			return Platforms{}, fmt.Errorf(`names %.80q; use index, all, or a platform such as linux/amd64 or linux/arm/v6`, name)
		default:
			os, rest, _ := strings.Cut(name, "/")
			architecture, variant, _ := strings.Cut(rest, "/")
			named := Platform{OS: os, Architecture: architecture, Variant: variant}
			if named.Unknown() {
				return Platforms{}, errors.New(`names "unknown/unknown", which is no platform`)
			}
			p.named = append(p.named, named.Canonical())
		}
	}
	p.named = sorted(p.named)
	if len(p.named) > maxPlatforms {
		return Platforms{}, fmt.Errorf("names %d platforms; at most %d may be named; use all", len(p.named), maxPlatforms)
	}
	return p, nil
}

func sorted(platforms []Platform) []Platform {
	slices.SortFunc(platforms, func(a, b Platform) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(platforms)
}

// With gives what both demand: what one of them demands, the other does not take away.
func (p Platforms) With(other Platforms) Platforms {
	return Platforms{all: p.all || other.all, named: sorted(slices.Concat(p.named, other.named))}
}

// None tells whether the index alone is verified.
func (p Platforms) None() bool { return !p.all && len(p.named) == 0 }

// List is the list that [ReadPlatforms] reads as the same choice; nil for none. Equal choices have equal lists.
func (p Platforms) List() (list []string) {
	if p.all {
		list = append(list, allOfThem)
	}
	for _, named := range p.named {
		list = append(list, named.String())
	}
	return list
}

// String is the list as one text; "" for none.
func (p Platforms) String() string { return strings.Join(p.List(), ",") }

// Choose tells whether the manifest of a platform is verified.
func (p Platforms) Choose(of Platform) bool {
	switch {
	case p.None() || of.Unknown():
		return false
	case p.all || of.Open():
		return true
	}
	of = of.Canonical()
	plain := of
	plain.Variant = ""
	return slices.ContainsFunc(p.named, func(named Platform) bool {
		mayRun := of.Variant == "" && Platform{OS: named.OS, Architecture: named.Architecture} == plain // on every variant
		return mayRun || named.covers(of)
	})
}

// Missing gives the platforms that are chosen by name and that no manifest is for. One whose platform the index does not say is for
// none of them.
func (p Platforms) Missing(listed []Platform) (missing []Platform) {
	for _, named := range p.named {
		is := func(of Platform) bool { return !of.Open() && named.covers(of.Canonical()) }
		if !slices.ContainsFunc(listed, is) {
			missing = append(missing, named)
		}
	}
	return missing
}
