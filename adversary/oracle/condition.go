package oracle

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// Demand is an attestation type that an image must carry.
type Demand struct {
	Type     string
	Select   string // "", all, latest, any
	Any, All []Condition
}

// Condition is one of the conditions that the oracle can evaluate: the key is a path, {{ a.b[].c }}, into the payload.
type Condition struct {
	Key      string `json:"key"`
	Operator string `json:"operator"`
	Value    any    `json:"value"`
}

func (d Demand) unconditional() bool { return len(d.Any) == 0 && len(d.All) == 0 }

// met evaluates the conditions on a payload.
func (d Demand) met(payload []byte) bool {
	var document any
	if json.Unmarshal(payload, &document) != nil {
		return false
	}
	for _, condition := range d.All {
		if !condition.met(document) {
			return false
		}
	}
	return len(d.Any) == 0 || slices.ContainsFunc(d.Any, func(c Condition) bool { return c.met(document) })
}

func (c Condition) met(document any) bool {
	path := strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(c.Key), "{{"), "}}"))
	found, ok := lookUp(document, strings.Split(path, "."))
	if !ok {
		return false
	}
	wanted := roundTrip(c.Value)
	holds := func(element any) bool {
		return slices.ContainsFunc(listed(wanted), func(w any) bool { return reflect.DeepEqual(w, element) })
	}
	switch c.Operator {
	case "Equals":
		return reflect.DeepEqual(found, wanted)
	case "NotEquals":
		return !reflect.DeepEqual(found, wanted)
	case "AnyIn":
		return slices.ContainsFunc(listed(found), holds)
	case "AllIn":
		return !slices.ContainsFunc(listed(found), func(e any) bool { return !holds(e) })
	case "AnyNotIn":
		return slices.ContainsFunc(listed(found), func(e any) bool { return !holds(e) })
	case "AllNotIn":
		return !slices.ContainsFunc(listed(found), holds)
	}
	return false
}

// lookUp follows a path; "name[]" collects from every element of a list what the rest of the path finds.
func lookUp(value any, path []string) (any, bool) {
	if len(path) == 0 {
		return value, true
	}
	name, each := strings.CutSuffix(path[0], "[]")
	object, _ := value.(map[string]any)
	member, ok := object[name]
	if !ok || !each {
		if !ok {
			return nil, false
		}
		return lookUp(member, path[1:])
	}
	elements, ok := member.([]any)
	if !ok {
		return nil, false
	}
	collected := []any{}
	for _, element := range elements {
		if found, ok := lookUp(element, path[1:]); ok {
			collected = append(collected, found)
		}
	}
	return collected, true
}

func listed(value any) []any {
	if list, ok := value.([]any); ok {
		return list
	}
	return []any{value}
}

// roundTrip makes of a value what JSON makes of it: numbers are numbers, be they written in Go as they may.
func roundTrip(value any) any {
	text, err := json.Marshal(value)
	if err != nil {
		return nil
	}
	var read any
	if json.Unmarshal(text, &read) != nil {
		return nil
	}
	return read
}
