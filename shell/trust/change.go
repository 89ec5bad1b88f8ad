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

	manifests []manifest // ConfigMaps and Secrets beside them in files
}

// applied gives resources of files as they stand by themselves.
func (r resources) applied() Resources {
	return Resources{r.policies, r.stores, r.manifests}.Read(NotAmongManifests)
}

// NotAmongManifests is a bundle that a trust store in a file names, and no file beside it holds.
func NotAmongManifests(BundleRef) Bundle {
	return Bundle{Problem: "is not among the manifests in the files of trust, where its metadata.namespace has to be written too"}
}

// Read gives the resources with the bundles that their stores name: those of manifests beside them, else as they were read before,
// else as read gives them.
func (r Resources) Read(read func(BundleRef) Bundle) Resources {
	before := map[BundleRef]Bundle{}
	for _, store := range r.Stores {
		if ref, err := store.BundleRef(); err == nil && store.Bundle != (Bundle{}) {
			before[ref] = store.Bundle
		}
	}
	r.Stores = Resolved(r.Stores, func(ref BundleRef) Bundle {
		if bundle, ok := bundleIn(r.manifests, ref); ok {
			return bundle
		}
		if bundle, ok := before[ref]; ok {
			return bundle
		}
		return read(ref)
	})
	return r
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
	return found.applied(), found.problems, nil
}

// ReadChange reads a file with resources that are proposed. Unlike those in force, all must be readable and have names: what a
// cluster would refuse changes nothing.
func ReadChange(path string) (Resources, error) {
	data, err := readBounded(path)
	if err != nil {
		return Resources{}, err
	}
	return ParseChange(path, data)
}

// ParseChange is ReadChange of what was read already, under the name of its file.
func ParseChange(path string, data []byte) (Resources, error) {
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
	bundles := slices.DeleteFunc(found.manifests, func(m manifest) bool { return m.object.Namespace == "" || m.object.Name == "" })
	if len(found.policies)+len(found.stores)+len(bundles) == 0 && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%s holds no TrustPolicy and no TrustStore of %s", path, GroupVersion))
	}
	return Resources{found.policies, found.stores, bundles}, errors.Join(errs...)
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

// With gives the resources after others were applied: those of the same kind and name are replaced. Bundles that proposed stores name
// are to be read with [Resources.Read].
func (r Resources) With(applied Resources) Resources {
	policies, stores := slices.Clone(r.Policies), slices.Clone(r.Stores)
	for _, p := range applied.Policies {
		policies = append(slices.DeleteFunc(policies, func(have PolicyResource) bool { return have.object() == p.object() }), p)
	}
	for _, s := range applied.Stores {
		stores = append(slices.DeleteFunc(stores, func(have StoreResource) bool { return have.object() == s.object() }), s)
	}
	manifests := slices.Clone(r.manifests)
	for _, m := range applied.manifests {
		manifests = append(slices.DeleteFunc(manifests, m.is), m)
	}
	return Resources{policies, stores, manifests}
}

// Unnamed gives the manifests of ConfigMaps and Secrets that no store names: such as ns/name. They change nothing.
func (r Resources) Unnamed(stores []StoreResource) []string {
	refs := BundleRefs(stores)
	var unnamed []string
	for _, m := range r.manifests {
		if !slices.ContainsFunc(refs, func(ref BundleRef) bool {
			return ref.Kind == m.kind && ref.Namespace == m.object.Namespace && ref.Name == m.object.Name
		}) {
			unnamed = append(unnamed, BundleRef{m.kind, m.object}.String())
		}
	}
	return unnamed
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
	return Resources{policies, stores, r.manifests}, nil
}

// Compile builds the snapshot of the resources.
func (r Resources) Compile() (trust.Snapshot, []Problem) { return Compile(r.Policies, r.Stores) }

func (r PolicyResource) object() string { return cmp.Or(r.Object, r.Name) }
func (r StoreResource) object() string  { return cmp.Or(r.Object, r.Name) }
