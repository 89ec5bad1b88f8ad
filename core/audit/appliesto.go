package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	kjson "sigs.k8s.io/json"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// AppliesTo says in which namespaces a trust policy is demanded, and with which attestations: the field spec.appliesTo of a
// TrustPolicy.
type AppliesTo struct {
	TrustPolicy string
	Namespaces  Selector
	Rules       []core.AttestationRule // empty where a signature is enough
	Unreadable  string                 // why the attestations cannot be read; "" where they can
}

// Namespaces are the labels of namespaces, by name. Of a namespace that is not among them the name is known, and nothing else.
type Namespaces map[string]map[string]string

// LabelName is the label that holds the name of each namespace. An API server sets it, whatever is written.
const LabelName = "kubernetes.io/metadata.name"

// Selector chooses namespaces that meet all its requirements, as the LabelSelector of Kubernetes does. The zero value chooses all.
type Selector []Requirement

// Requirement is a requirement on a label.
type Requirement struct {
	Key      string
	Operator Operator
	Values   []string // of In and NotIn, one at least
}

// Operator is an operator of a requirement.
type Operator string

// The operators. NotIn and DoesNotExist are met where the label is missing.
const (
	In           Operator = "In"
	NotIn        Operator = "NotIn"
	Exists       Operator = "Exists"
	DoesNotExist Operator = "DoesNotExist"
)

// selects tells whether a namespace is chosen; known is false where that depends on labels that are not known.
func (s Selector) selects(namespace string, namespaces Namespaces) (selects, known bool) {
	labels, complete := namespaces[namespace]
	known = true
	for _, r := range s {
		value, have := labels[r.Key]
		switch {
		case r.Key == LabelName && namespace != "":
			value, have = namespace, true
		case !complete || namespace == "":
			known = false
			continue
		}
		if !r.meets(value, have) {
			return false, true
		}
	}
	return known, known
}

func (r Requirement) meets(value string, have bool) bool {
	switch r.Operator {
	case In:
		return have && slices.Contains(r.Values, value)
	case NotIn:
		return !have || !slices.Contains(r.Values, value)
	case Exists:
		return have
	}
	return !have
}

// NeedsLabels tells whether the selector looks at labels other than the name of the namespace.
func (s Selector) NeedsLabels() bool {
	return slices.ContainsFunc(s, func(r Requirement) bool { return r.Key != LabelName })
}

// maxRequirements and maxValues bound a selector: it is looked at for each namespace.
const (
	maxRequirements = 64
	maxValues       = 256 // of a requirement
)

// written is the field as it is written.
type written struct {
	NamespaceSelector json.RawMessage `json:"namespaceSelector"`
	Attestations      json.RawMessage `json:"attestations"`
}

// writtenSelector is a LabelSelector of Kubernetes.
type writtenSelector struct {
	MatchLabels      map[string]string `json:"matchLabels"`
	MatchExpressions []struct {
		Key      string   `json:"key"`
		Operator Operator `json:"operator"`
		Values   []string `json:"values"`
	} `json:"matchExpressions"`
}

// ParseAppliesTo reads the field of a trust policy from JSON. It refuses what it does not understand, as [core.ParseRequest]
// does: a typo must not switch a check off. Where only the attestations cannot be read, the namespaces are known, and the result
// says in Unreadable what is wrong.
func ParseAppliesTo(trustPolicy string, data []byte) (AppliesTo, error) {
	if trustPolicy == "" { // which would be the default one
		return AppliesTo{}, errors.New("the trust policy has no name")
	}
	var field written
	if err := strict(data, &field); err != nil {
		return AppliesTo{}, err
	}
	if field.NamespaceSelector == nil {
		return AppliesTo{}, errors.New("namespaceSelector is missing; {} selects all namespaces")
	}
	selector, err := parseSelector(field.NamespaceSelector)
	if err != nil {
		return AppliesTo{}, fmt.Errorf("namespaceSelector: %w", err)
	}
	applied := AppliesTo{TrustPolicy: trustPolicy, Namespaces: selector}
	if field.Attestations != nil {
		// In a policy of Kyverno the keys are escaped, so that it does not resolve them.
		field.Attestations = bytes.ReplaceAll(field.Attestations, []byte(`\\{{`), []byte(`{{`))
		if applied.Rules, err = core.ParseAttestations(field.Attestations); err != nil {
			applied.Unreadable = err.Error()
		}
	}
	return applied, nil
}

func parseSelector(data []byte) (selector Selector, err error) {
	if holdsNull(data) {
		return nil, errors.New("holds null; fill it in or leave it out")
	}
	var labels writtenSelector
	if err := strict(data, &labels); err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(labels.MatchLabels)) {
		selector = append(selector, Requirement{key, In, []string{labels.MatchLabels[key]}})
	}
	for _, e := range labels.MatchExpressions {
		selector = append(selector, Requirement{e.Key, e.Operator, e.Values})
	}
	if len(selector) > maxRequirements {
		return nil, fmt.Errorf("has %d requirements; at most %d are read", len(selector), maxRequirements)
	}
	for _, r := range selector {
		if err := r.validate(); err != nil {
			return nil, fmt.Errorf("label %q: %w", reason.Clip(r.Key, reason.MaxName), err)
		}
	}
	return selector, nil
}

// The forms of names of labels and of their values (Kubernetes, labels and selectors, section "Syntax and character set").
var (
	labelPrefix = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	labelName   = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
)

func (r Requirement) validate() error {
	prefix, name, prefixed := strings.Cut(r.Key, "/")
	if !prefixed {
		name = prefix
	}
	switch {
	case !labelName.MatchString(name), prefixed && (len(prefix) > 253 || !labelPrefix.MatchString(prefix)):
		return errors.New("is no name of a label")
	case !slices.Contains([]Operator{In, NotIn, Exists, DoesNotExist}, r.Operator):
		return fmt.Errorf("operator is %q; use In, NotIn, Exists or DoesNotExist", reason.Clip(string(r.Operator), reason.MaxName))
	case (r.Operator == In || r.Operator == NotIn) != (len(r.Values) > 0):
		return fmt.Errorf("%s with %d values; In and NotIn have values, the other operators none", r.Operator, len(r.Values))
	case len(r.Values) > maxValues:
		return fmt.Errorf("has %d values; at most %d are read", len(r.Values), maxValues)
	}
	for _, value := range r.Values {
		if value != "" && !labelName.MatchString(value) {
			return fmt.Errorf("%q is no value of a label", reason.Clip(value, reason.MaxName))
		}
	}
	return nil
}

// strict decodes one JSON object, and refuses unknown and repeated fields by name.
func strict(data []byte, into any) error {
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return errors.New("it is not a JSON object")
	}
	unknown, err := kjson.UnmarshalStrict(data, into)
	if err != nil {
		return err
	}
	return errors.Join(unknown...)
}

// holdsNull tells whether JSON has a null anywhere.
func holdsNull(data []byte) bool {
	decoder := json.NewDecoder(bytes.NewReader(data))
	for {
		token, err := decoder.Token()
		if err != nil {
			return false
		}
		if token == nil {
			return true
		}
	}
}
