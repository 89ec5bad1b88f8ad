package trust

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// Resources are trust resources as they are applied, before they are compiled.
type Resources struct {
	Policies []PolicyResource
	Stores   []StoreResource
}

// ReadDir reads the trust files of a directory once. It gives what [Files] would, and the problems of files and documents that
// could not be read.
func ReadDir(dir string) (Resources, []Problem, error) {
	files := &Files{dir: dir, read: readBounded}
	names, _, err := files.list()
	if err != nil {
		return Resources{}, nil, fmt.Errorf("trust directory %s: %w", dir, err)
	}
	found, _ := files.readAll(names)
	return Resources{found.policies, found.stores}, found.problems, nil
}

// ReadChange reads a file with resources that are proposed. Unlike those in force, all must be readable and have names: what a
// cluster would refuse changes nothing.
func ReadChange(path string) (Resources, error) {
	data, err := readBounded(path)
	if err != nil {
		return Resources{}, err
	}
	found := parseFile(path, data)
	var errs []error
	for _, p := range slices.Concat(found.problems, found.passed) {
		errs = append(errs, fmt.Errorf("%s: %s", p.Name, p.Reason))
	}
	for _, r := range found.policies {
		errs = append(errs, proposed("TrustPolicy", r.Name, r.Object, r.Unreadable))
	}
	_, unread := Resources{Policies: found.policies}.AppliesTo()
	for _, p := range unread {
		errs = append(errs, fmt.Errorf("TrustPolicy %s: %s", p.Name, p.Reason))
	}
	for _, r := range found.stores {
		errs = append(errs, proposed("TrustStore", r.Name, r.Object, r.Unreadable))
	}
	if len(found.policies)+len(found.stores) == 0 && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%s holds no TrustPolicy and no TrustStore of %s", path, GroupVersion))
	}
	return Resources{found.policies, found.stores}, errors.Join(errs...)
}

func proposed(kind, name, object, unreadable string) error {
	switch {
	case unreadable != "":
		return fmt.Errorf("%s %s: %s", kind, name, unreadable)
	case object == "":
		return fmt.Errorf("%s %s: metadata.name is empty", kind, name)
	}
	return nil
}

// With gives the resources after others were applied: those of the same kind and name are replaced.
func (r Resources) With(applied Resources) Resources {
	policies, stores := slices.Clone(r.Policies), slices.Clone(r.Stores)
	for _, p := range applied.Policies {
		policies = append(slices.DeleteFunc(policies, func(have PolicyResource) bool { return have.object() == p.object() }), p)
	}
	for _, s := range applied.Stores {
		stores = append(slices.DeleteFunc(stores, func(have StoreResource) bool { return have.object() == s.object() }), s)
	}
	return Resources{policies, stores}
}

// Without gives the resources after one was deleted, by its name or as TrustPolicy/NAME or TrustStore/NAME. It fails where there
// is none, and where the name alone could mean either.
func (r Resources) Without(name string) (Resources, error) {
	kind, object, qualified := strings.Cut(name, "/")
	if !qualified {
		kind, object = "", name
	}
	policies := slices.DeleteFunc(slices.Clone(r.Policies), func(p PolicyResource) bool {
		return p.object() == object && (!qualified || strings.EqualFold(kind, "TrustPolicy"))
	})
	stores := slices.DeleteFunc(slices.Clone(r.Stores), func(s StoreResource) bool {
		return s.object() == object && (!qualified || strings.EqualFold(kind, "TrustStore"))
	})
	fewerPolicies, fewerStores := len(policies) < len(r.Policies), len(stores) < len(r.Stores)
	switch {
	case !fewerPolicies && !fewerStores:
		return r, fmt.Errorf("there is no TrustPolicy and no TrustStore %q", name)
	case fewerPolicies && fewerStores:
		return r, fmt.Errorf("%q is the name of a TrustPolicy and of a TrustStore; write TrustPolicy/%s or TrustStore/%s", name, name, name)
	}
	return Resources{policies, stores}, nil
}

// Compile builds the snapshot of the resources.
func (r Resources) Compile() (trust.Snapshot, []Problem) { return Compile(r.Policies, r.Stores) }

func (r PolicyResource) object() string { return cmp.Or(r.Object, r.Name) }
func (r StoreResource) object() string  { return cmp.Or(r.Object, r.Name) }
