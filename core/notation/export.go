package notation

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// Export gives the files of a directory for a trust policy that can be used, with the trust stores that it names. Registry scopes are
// written as images are compared with them, since notation compares letter by letter. It fails where a store cannot be used as a whole,
// and where its name would lead to another folder.
func Export(policy trust.Policy, stores trust.Stores) ([]File, error) {
	if policy.Problem != "" {
		return nil, fmt.Errorf("trust policy %q cannot be used: %s", policy.Name, policy.Problem)
	}
	document := struct {
		Version       string            `json:"version"`
		TrustPolicies []policyStatement `json:"trustPolicies"`
	}{"1.0", written(policy.Statements)}
	var files []File
	seen := map[string]bool{}
	for i, statement := range policy.Statements {
		if len(statement.Platforms) > 0 || statement.SignatureRepository != "" {
			return nil, fmt.Errorf("statement %q has platforms or signatureRepository, which notation's trust policy cannot say; without them notation would verify less, or elsewhere", statement.Name)
		}
		for j, scope := range statement.RegistryScopes {
			canonical, err := trust.CanonicalScope(scope)
			if err != nil {
				return nil, fmt.Errorf("registryScopes[%d] of statement %q: %w", j, statement.Name, err)
			}
			scopes := append([]string(nil), document.TrustPolicies[i].RegistryScopes...)
			scopes[j] = canonical
			document.TrustPolicies[i].RegistryScopes = scopes
		}
		for _, named := range statement.TrustStores {
			if seen[named] {
				continue
			}
			seen[named] = true
			file, err := exported(named, stores)
			if err != nil {
				return nil, err
			}
			files = append(files, file)
		}
	}
	text, err := json.MarshalIndent(document, "", "    ")
	if err != nil {
		return nil, fmt.Errorf("trust policy %q: %w", policy.Name, err)
	}
	return append([]File{{PolicyFile, append(text, '\n')}}, files...), nil
}

// exported gives the file of a trust store.
func exported(named string, stores trust.Stores) (File, error) {
	kind, name, _ := strings.Cut(named, ":")
	ref := trust.StoreRef{Type: kind, Name: name}
	if err := checkStoreName(name); err != nil {
		return File{}, err
	}
	if _, err := stores.Certificates(ref); err != nil {
		return File{}, err
	}
	store := stores[ref]
	if len(store.Unused) > 0 {
		return File{}, fmt.Errorf("trust store %q cannot be carried over as a whole: %s", ref, reason.Clip(strings.Join(store.Unused, "; "), reason.MaxWords))
	}
	return File{path.Join(StoreFolder, kind, name, exportedBundle), []byte(bundle(store))}, nil
}
