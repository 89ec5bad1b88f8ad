package migrate

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/samber/lo"
)

// Resource is a kind of objects with pods, as an API server names it.
type Resource struct {
	Group, Version string // "" is the core group; "*" is any version
	Kind, Plural   string
}

// workloads are the kinds of Kubernetes that have pods.
var workloads = []Resource{
	{"", "v1", "Pod", "pods"},
	{"", "v1", "ReplicationController", "replicationcontrollers"},
	{"", "v1", "PodTemplate", "podtemplates"},
	{"apps", "v1", "Deployment", "deployments"},
	{"apps", "v1", "StatefulSet", "statefulsets"},
	{"apps", "v1", "DaemonSet", "daemonsets"},
	{"apps", "v1", "ReplicaSet", "replicasets"},
	{"batch", "v1", "Job", "jobs"},
	{"batch", "v1", "CronJob", "cronjobs"},
}

// controllers are the kinds for which Kyverno derives rules from a rule for pods.
var controllers = []string{"DaemonSet", "Deployment", "Job", "StatefulSet", "ReplicaSet", "ReplicationController", "CronJob"}

// ephemeral is the subresource of pods by which a running pod gets further containers.
const ephemeral = "ephemeralcontainers"

var isEphemeral = cel{text: `has(request.subResource) && request.subResource == "` + ephemeral + `"`, binds: and}

// kind is an entry of kinds: parts of a group, version, kind and subresource, each a pattern.
type kind struct{ group, version, name, subresource string }

var kindVersion = regexp.MustCompile(`^(v\d((alpha|beta)\d)?|\*)$`)

// parseKind reads an entry as Kyverno does; false for one with too many parts.
func parseKind(text string) (k kind, ok bool) {
	parts := strings.Split(text, "/")
	parts = append(parts[:len(parts)-1], strings.Split(parts[len(parts)-1], ".")...)
	versioned := kindVersion.MatchString(parts[0])
	switch {
	case len(parts) == 1:
		return kind{"*", "*", parts[0], ""}, true
	case len(parts) == 2 && parts[0] == "*" && (parts[1] == "*" || strings.ToLower(parts[1]) == parts[1]):
		return kind{"*", "*", "*", parts[1]}, true
	case len(parts) == 2 && versioned:
		return kind{"*", parts[0], parts[1], ""}, true
	case len(parts) == 2:
		return kind{"*", "*", parts[0], parts[1]}, true
	case len(parts) == 3 && versioned:
		return kind{"*", parts[0], parts[1], parts[2]}, true
	case len(parts) == 3:
		return kind{parts[0], parts[1], parts[2], ""}, true
	case len(parts) == 4:
		return kind{parts[0], parts[1], parts[2], parts[3]}, true
	}
	return kind{}, false
}

// covers tells whether a group and kind is meant; the version is told apart by the rule.
func (k kind) covers(r Resource) bool {
	return k.name == r.Kind && (k.group == "*" || k.group == r.Group)
}

// resourceRule is a rule of matchConstraints.
type resourceRule struct {
	APIGroups   []string `yaml:"apiGroups,flow"`
	APIVersions []string `yaml:"apiVersions,flow"`
	Operations  []string `yaml:"operations,flow"`
	Resources   []string `yaml:"resources,flow"`
}

// resources gives what a kind of match stands for, or says why that is not known.
func (k kind) resources(at value, known []Resource) (found []Resource) {
	switch {
	case wild(k.name):
		at.fail("is a pattern of kinds; name the kinds")
		return nil
	case wild(k.group) && k.group != "*" || wild(k.version) && k.version != "*":
		at.fail("is a pattern of groups or versions; name the kind as group/version/Kind, each * or in full")
		return nil
	case k.subresource != "" && (k.subresource != ephemeral || k.name != "Pod"):
		at.fail("has a subresource in which no images are; take it out")
		return nil
	}
	for _, r := range known {
		if !k.covers(r) {
			continue
		}
		if r.Version != "*" && k.version != "*" && k.version != r.Version {
			at.fail("has the version %s, but Kubernetes serves %s as %s; write that", quoted(k.version), r.Kind, strings.TrimPrefix(r.Group+"/"+r.Version, "/"))
			return nil
		}
		if r.Version == "*" {
			r.Version = k.version
		}
		if k.subresource == ephemeral {
			r.Plural = "pods/" + ephemeral
		}
		found = append(found, r)
	}
	if len(found) == 0 {
		at.fail("is a kind whose resource is not known here; say it with --resource, such as --resource argoproj.io/Rollout=rollouts")
	}
	return found
}

// resourceRules has one rule for each group and version, in the order of the kinds.
func resourceRules(resources []Resource, operations []string) (rules []resourceRule) {
	for _, r := range lo.UniqBy(resources, func(r Resource) string { return r.Group + "/" + r.Version }) {
		rule := resourceRule{APIGroups: []string{r.Group}, APIVersions: []string{r.Version}, Operations: operations}
		for _, other := range resources {
			if other.Group != r.Group || other.Version != r.Version {
				continue
			}
			rule.Resources = append(rule.Resources, other.Plural)
			if other.Group == "" && other.Plural == "pods" {
				rule.Resources = append(rule.Resources, "pods/"+ephemeral)
			}
		}
		rule.Resources = lo.Uniq(rule.Resources)
		rules = append(rules, rule)
	}
	slices.SortStableFunc(rules, func(a, b resourceRule) int { return strings.Compare(a.APIGroups[0], b.APIGroups[0]) })
	return rules
}

// kindCondition is true for requests about one of the kinds. It is about a pod's ephemeral containers wherever it is about pods,
// as in a ClusterPolicy.
func kindCondition(kinds []kind) cel {
	var plain []string
	var parts []cel
	for _, k := range kinds {
		subresource := always
		if k.subresource == ephemeral {
			subresource = isEphemeral
		}
		if k.group == "*" && k.version == "*" && subresource == always {
			plain = append(plain, k.name)
			continue
		}
		parts = append(parts, all(
			matches("request.kind.group", []string{k.group}), matches("request.kind.version", []string{k.version}),
			matches("request.kind.kind", []string{k.name}), subresource))
	}
	if len(plain) > 0 {
		parts = append([]cel{matches("request.kind.kind", plain)}, parts...)
	}
	return anyOf(parts...)
}

// ParseResource reads group/Kind=plural.
func ParseResource(text string) (Resource, error) {
	name, plural, found := strings.Cut(text, "=")
	group, kind, grouped := strings.Cut(name, "/")
	if !found || !grouped || !dns.MatchString(group) || !kindName.MatchString(kind) || !dns.MatchString(plural) {
		return Resource{}, fmt.Errorf("%s is not group/Kind=resources, such as argoproj.io/Rollout=rollouts", quoted(text))
	}
	return Resource{group, "*", kind, plural}, nil
}

var (
	dns      = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)
	kindName = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,62}$`)
)
