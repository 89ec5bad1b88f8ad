package audit

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// Demand is what images are held against.
type Demand struct {
	TrustPolicy string                 // "" for the default
	Rules       []core.AttestationRule // empty where a signature is enough
	Unknown     *reason.Finding        // why it is not known what is demanded; nil where it is

	rules string // identity of Rules; "" where they are empty
}

// Demands say what is demanded in each namespace. By the zero value no trust policy applies to any.
type Demands struct {
	applied    []AppliesTo
	namespaces Namespaces
	fallback   *Demand                           // of namespaces that no field appliesTo selects; nil for none
	known      map[string][]Demand               // of the namespaces
	rules      map[string][]core.AttestationRule // by identity
}

// placeholder stands for the namespace in the name of a trust policy; anything for whatever else is in such braces.
var (
	placeholder = regexp.MustCompile(`\{\{\s*namespace\s*\}\}`)
	anything    = regexp.MustCompile(`\{\{|\}\}`)
)

// Everywhere demands one trust policy, and attestations, in all namespaces. In the name {{ namespace }} stands for the namespace;
// "" is the default.
func Everywhere(trustPolicy string, rules []core.AttestationRule) (Demands, error) {
	if anything.MatchString(placeholder.ReplaceAllString(trustPolicy, "")) {
		return Demands{}, fmt.Errorf("trust policy %q: the only variable is {{ namespace }}", reason.Clip(trustPolicy, reason.MaxName))
	}
	return ByNamespace(nil, nil, &Demand{TrustPolicy: trustPolicy, Rules: rules}), nil
}

// ByNamespace demands in each namespace what the trust policies demand that select it, each by itself, and the fallback where
// none does; nil has that not be known.
func ByNamespace(applied []AppliesTo, namespaces Namespaces, fallback *Demand) Demands {
	d := Demands{applied: applied, namespaces: namespaces, known: map[string][]Demand{}, rules: map[string][]core.AttestationRule{}}
	if fallback != nil {
		d.fallback = &Demand{TrustPolicy: fallback.TrustPolicy, Rules: fallback.Rules, rules: identityOf(fallback.Rules)}
		d.rules[d.fallback.rules] = fallback.Rules
	}
	for _, a := range applied {
		d.rules[identityOf(a.Rules)] = a.Rules
	}
	for namespace := range namespaces {
		d.known[namespace] = d.of(namespace)
	}
	return d
}

// identityOf is a hash of rules, for keys: only equal rules have the same.
func identityOf(rules []core.AttestationRule) string {
	if len(rules) == 0 {
		return ""
	}
	hash := sha256.New()
	for _, rule := range rules {
		fmt.Fprintf(hash, "%q %d\n", rule.ImageReference, len(rule.Types))
		for _, demand := range rule.Types {
			fmt.Fprintln(hash, demand.Identity())
		}
	}
	return fmt.Sprintf("%x", hash.Sum(nil))
}

// Of lists what is demanded in a namespace: one demand at least.
func (d Demands) Of(namespace string) []Demand {
	if demands, ok := d.known[namespace]; ok {
		return demands
	}
	return d.of(namespace)
}

func (d Demands) of(namespace string) (demands []Demand) {
	for _, a := range d.applied {
		demand := Demand{TrustPolicy: a.TrustPolicy, Rules: a.Rules, rules: identityOf(a.Rules)}
		switch selects, known := a.Namespaces.selects(namespace, d.namespaces); {
		case !known:
			demand.Unknown = &reason.Finding{Code: reason.DemandUnknown, Reason: fmt.Sprintf("whether trust policy %q applies depends on labels of namespace %q, which are not known", a.TrustPolicy, namespace)}
		case !selects:
			continue
		case a.Unreadable != "":
			demand.Unknown = &reason.Finding{Code: reason.DemandUnknown, Reason: fmt.Sprintf("trust policy %q applies, and what it demands cannot be read: %s", a.TrustPolicy, a.Unreadable)}
		}
		demands = append(demands, demand)
	}
	switch {
	case len(demands) > 0:
		return demands
	case d.fallback != nil:
		demand := *d.fallback
		if namespace != "" { // else the variable stays, so that no policy is found: an empty name would mean the default
			demand.TrustPolicy = placeholder.ReplaceAllLiteralString(demand.TrustPolicy, namespace)
		}
		return []Demand{demand}
	}
	return []Demand{{Unknown: &reason.Finding{Code: reason.NoTrustPolicy, Reason: fmt.Sprintf("no trust policy applies to namespace %q; select it in spec.appliesTo of one", namespace)}}}
}

// Check is what is verified once.
type Check struct {
	Image       string // as it is written, or with the digest that runs
	TrustPolicy string // "" for the default
	Rules       string // identity of the attestations that are demanded; "" for none
}

// checks gives what is verified of a use: what a restart would pull, and what runs, where that may be something else. An image
// that cannot be parsed has one check, which denies it.
func (d Demand) checks(use Use) (restart Check, runs *Check) {
	restart = Check{use.Image, d.TrustPolicy, d.rules}
	ref, err := image.Parse(use.Image)
	if err != nil || use.Running == "" || ref.Digest == use.Running {
		return restart, nil
	}
	ref.Digest = use.Running
	return restart, &Check{ref.String(), d.TrustPolicy, d.rules}
}

// Checks lists the distinct checks of uses, in order.
func (d Demands) Checks(uses []Use) []Check {
	all := map[Check]bool{}
	for _, use := range uses {
		for _, demand := range d.Of(use.Namespace) {
			if demand.Unknown != nil {
				continue
			}
			restart, runs := demand.checks(use)
			all[restart] = true
			if runs != nil {
				all[*runs] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(all), Check.Compare)
}

// Compare orders checks by image, so that those of one repository stand together.
func (c Check) Compare(other Check) int {
	return cmp.Or(cmp.Compare(c.Image, other.Image), cmp.Compare(c.TrustPolicy, other.TrustPolicy), cmp.Compare(c.Rules, other.Rules))
}

// Plan plans a check under a trust, as a request for it is planned. It fails where a request would be refused.
func (d Demands) Plan(check Check, snapshot trust.Snapshot, defaultPolicy string) (core.Plan, error) {
	rules, ok := d.rules[check.Rules]
	if !ok && check.Rules != "" {
		return core.Plan{}, fmt.Errorf("the attestations %s are not among those that are demanded", check.Rules)
	}
	ref, err := image.Parse(check.Image)
	if err != nil {
		return core.Plan{}, err
	}
	return core.NewPlan(core.Request{
		Images:      []core.Image{{Kind: "container", Name: "app", Written: check.Image, Ref: ref}},
		TrustPolicy: check.TrustPolicy, Attestations: rules,
	}, snapshot, defaultPolicy)
}
