package condition

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Conditions are Kyverno's any/all conditions. At least one of Any, where there are any, and each of All
// must hold.
type Conditions struct {
	Any []Condition `json:"any,omitempty"`
	All []Condition `json:"all,omitempty"`
}

// Condition is one of Kyverno's conditions. Key and Value are JSON, as Kyverno's are; a string in them may
// hold {{ expressions }}.
type Condition struct {
	Key      json.RawMessage `json:"key"`
	Operator string          `json:"operator"`
	Value    json.RawMessage `json:"value,omitempty"`
	Message  string          `json:"message,omitempty"`
}

// Environment is the input of an evaluation beside conditions and document.
type Environment struct {
	Now   time.Time   // the time for expressions
	Ended func() bool // tells whether the request has ended; nil where it never does
}

// Outcome is the kind of an evaluation's result. The zero value admits nothing.
type Outcome int

// The outcomes.
const (
	Invalid         Outcome = iota // a condition cannot be evaluated
	DocumentInvalid                // the document cannot be read
	Unmet                          // a condition is not met
	Ended                          // the request ended before the evaluation did
	Met                            // the conditions are met
)

// Result is an outcome with its reason.
type Result struct {
	Outcome       Outcome
	Reason        string   // a sentence for a person; "" when the conditions are met
	Met           []string // what conditions that are met saw, a sentence each; without those that were not looked at, and bounded
	TimeDependent bool     // an expression read the clock, so the outcome holds for that moment only
	Steps, Bytes  int      // spent of the budget
}

// FieldError says which field of conditions is wrong, and what to do.
type FieldError struct {
	Field string // path of the field below the conditions, such as ".all[0].key"
	Text  string
}

// Error is one sentence for the conditions' author.
func (e *FieldError) Error() string { return e.Field + ": " + e.Text }

// Empty tells whether there are no conditions.
func (c Conditions) Empty() bool { return len(c.Any) == 0 && len(c.All) == 0 }

// conditionBytes is the memory of a condition beside its texts.
const conditionBytes = 100

// Weight is the memory that conditions take, bytes.
func (c Conditions) Weight() (bytes int) {
	for _, list := range [][]Condition{c.Any, c.All} {
		for i := range list {
			bytes += conditionBytes + len(list[i].Key) + len(list[i].Operator) + len(list[i].Value) + len(list[i].Message)
		}
	}
	return bytes
}

// Normalise checks conditions, and puts their operators in Kyverno's spelling. It gives nil when they are valid.
func (c Conditions) Normalise() *FieldError {
	for _, list := range []struct {
		name       string
		conditions []Condition
	}{{".any", c.Any}, {".all", c.All}} {
		if list.conditions != nil && len(list.conditions) == 0 {
			return &FieldError{list.name, "is empty; list a condition or leave it out"}
		}
		for i := range list.conditions {
			if err := list.conditions[i].normalise(fmt.Sprintf("%s[%d]", list.name, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Condition) normalise(field string) *FieldError {
	switch string(bytes.TrimSpace(c.Key)) {
	case "", "null", `""`:
		return &FieldError{field + ".key", "is empty; name what the condition is about, such as {{ predicate.builder.id }}"}
	}
	operator, ok := spelled(c.Operator)
	if !ok {
		return &FieldError{field + ".operator", fmt.Sprintf("is %q; use one of %s", c.Operator, strings.Join(Operators(), ", "))}
	}
	c.Operator = operator
	return nil
}

// spelled gives an operator in Kyverno's spelling; not ok for an unknown one.
func spelled(operator string) (string, bool) {
	i := slices.IndexFunc(Operators(), func(known string) bool { return strings.EqualFold(known, operator) })
	if i < 0 {
		return "", false
	}
	return Operators()[i], true
}

// Operators lists the condition operators of Kyverno. Their case does not matter.
func Operators() []string {
	return []string{
		"Equal", "Equals", "NotEqual", "NotEquals", "In", "AnyIn", "AllIn", "NotIn", "AnyNotIn", "AllNotIn",
		"GreaterThanOrEquals", "GreaterThan", "LessThanOrEquals", "LessThan",
		"DurationGreaterThanOrEquals", "DurationGreaterThan", "DurationLessThanOrEquals", "DurationLessThan",
	}
}
