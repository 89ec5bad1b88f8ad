//go:build e2e

package deployment

import (
	"errors"
	"io"
	"os"
	"strings"

	rbac "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
)

// BundleNamespace is where config/bundles grants what trust stores name in caBundleFrom.
const BundleNamespace = "security"

// Permission is one verb on one resource, or on one object where the role names it, that a role grants.
type Permission struct {
	Role                        *rbac.ClusterRole // or a Role, which has the same rules
	Group, Resource, Name, Verb string
}

// String is like "watch secrets/regcred", or "get configmaps/kyverno-notation-venafi-ca in kyverno".
func (p Permission) String() string {
	text := p.Verb + " " + p.Resource
	if p.Name != "" {
		text += "/" + p.Name
	}
	if p.Role.Namespace == bed.KyvernoNamespace || p.Role.Namespace == BundleNamespace {
		text += " in " + p.Role.Namespace
	}
	return text
}

// Granted are the permissions that the roles of a name in a manifest grant.
func Granted(manifest, name string) (all []Permission, err error) {
	file, err := os.Open(manifest)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	for documents := yaml.NewYAMLOrJSONDecoder(file, 4096); ; {
		role := &rbac.ClusterRole{}
		if err := documents.Decode(role); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil && strings.HasSuffix(role.Kind, "Role") {
			return nil, err
		}
		if !strings.HasSuffix(role.Kind, "Role") || role.Name != name {
			continue
		}
		for _, rule := range role.Rules {
			all = append(all, single(role, rule)...)
		}
	}
}

func single(role *rbac.ClusterRole, rule rbac.PolicyRule) (all []Permission) {
	names := rule.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			for _, name := range names {
				for _, verb := range rule.Verbs {
					all = append(all, Permission{role, group, resource, name, verb})
				}
			}
		}
	}
	return all
}

// Without is the role with all of its permissions but one.
func (p Permission) Without() *rbac.ClusterRole {
	role := p.Role.DeepCopy()
	role.Rules = nil
	for _, rule := range p.Role.Rules {
		for _, other := range single(p.Role, rule) {
			if other == p {
				continue
			}
			lone := rbac.PolicyRule{APIGroups: []string{other.Group}, Resources: []string{other.Resource}, Verbs: []string{other.Verb}}
			if other.Name != "" {
				lone.ResourceNames = []string{other.Name}
			}
			role.Rules = append(role.Rules, lone)
		}
	}
	return role
}
