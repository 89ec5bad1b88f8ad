package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/condition"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// demands are the trust policy and the attestations that check requires of images.
type demands struct {
	trustPolicy string
	file        string
	types       []attestationType
}

// attestationType is an entry of a request's attestations, in its wire form.
type attestationType struct {
	Name       string               `json:"name"`
	Select     verification.Select  `json:"select,omitempty"`
	Conditions condition.Conditions `json:"conditions,omitzero"`
}

func (d *demands) register(flags *pflag.FlagSet) {
	flags.StringVar(&d.trustPolicy, "trustPolicy", "", "Trust policy to verify with; else DEFAULT_TRUST_POLICY.")
	flags.StringVar(&d.file, "attestations", "", "The `file` with a policy's attestations list (YAML or JSON).")
	flags.Func("attestation", "Attestation `type` that the images must carry; repeatable.", d.addType)
	flags.Func("select", "Which attestations of the `type` named before it must meet the conditions: all, latest or any.", d.setSelect)
	flags.Func("condition", "Condition on the attestation named before it, `'KEY OPERATOR VALUE'`; repeatable.", d.addCondition)
}

func (d *demands) addType(name string) error {
	d.types = append(d.types, attestationType{Name: name})
	return nil
}

func (d *demands) setSelect(which string) error {
	if len(d.types) == 0 {
		return errNoType
	}
	d.types[len(d.types)-1].Select = verification.Select(which)
	return nil
}

// errNoType is a flag about an attestation type that stands before the flag with the type.
var errNoType = errors.New("name the attestation type before it, with --attestation")

// addCondition reads a condition such as
//
//	{{ predicate.builder.id }} Equals https://github.com/actions/runner
//
// The value is JSON, or a string if it is not valid JSON.
func (d *demands) addCondition(text string) error {
	if len(d.types) == 0 {
		return errNoType
	}
	operators := core.Operators()
	slices.SortFunc(operators, func(a, b string) int { return len(b) - len(a) })
	match := regexp.MustCompile(`^\s*(.+?)\s+(` + strings.Join(operators, "|") + `)\s+(.+?)\s*$`).FindStringSubmatch(text)
	if match == nil {
		return fmt.Errorf("%q is not 'KEY OPERATOR VALUE' with one of the operators %s", text, strings.Join(core.Operators(), ", "))
	}
	key, err := json.Marshal(match[1])
	if err != nil {
		return err
	}
	value := json.RawMessage(match[3])
	if !json.Valid(value) {
		if value, err = json.Marshal(match[3]); err != nil {
			return err
		}
	}
	last := &d.types[len(d.types)-1]
	last.Conditions.All = append(last.Conditions.All, condition.Condition{Key: key, Operator: match[2], Value: value})
	return nil
}

// attestations gives the field attestations of the request; nil when no attestation is required.
func (d *demands) attestations() (any, error) {
	switch {
	case d.file != "" && len(d.types) > 0:
		return nil, errors.New("use --attestations or --attestation, one of the two")
	case d.file != "":
		return readAttestations(d.file)
	case len(d.types) > 0:
		return []any{map[string]any{"imageReference": "*", "type": d.types}}, nil
	}
	return nil, nil
}

// readAttestations reads a file that holds the list, or an object with the field attestations. In a policy the keys are
// escaped as \{{ }}, so that Kyverno does not resolve them; the backslashes are removed here, as Kyverno removes them.
func readAttestations(name string) (any, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var content any
	if err := yaml.UnmarshalStrict(data, &content); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if object, ok := content.(map[string]any); ok {
		content = object["attestations"]
	}
	list, ok := content.([]any)
	if !ok {
		return nil, fmt.Errorf("%s: want a list of attestations, or an object with the field attestations", name)
	}
	return unescape(list), nil
}

func unescape(value any) any {
	switch v := value.(type) {
	case string:
		return strings.ReplaceAll(v, `\{{`, `{{`)
	case []any:
		for i := range v {
			v[i] = unescape(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = unescape(v[key])
		}
	}
	return value
}
