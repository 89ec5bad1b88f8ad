package migrate

import (
	"time"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/api/resource"
)

// readPreconditions gives one condition for each of all, and one for any.
func readPreconditions(v value) (conditions []cel) {
	if v.node.Kind == yaml.SequenceNode { // as it was written before any and all
		v.list(func(v value) { conditions = append(conditions, readCondition(v)) })
		return conditions
	}
	v.object(fields{
		"all": func(v value) {
			v.list(func(v value) { conditions = append(conditions, readCondition(v)) })
		},
		"any": func(v value) {
			var parts []cel
			v.list(func(v value) { parts = append(parts, readCondition(v)) })
			conditions = append(conditions, anyOf(parts...))
		},
	})
	return conditions
}

// readCondition translates one condition of Kyverno's; true where it was refused.
func readCondition(v value) cel {
	var key, wanted value
	operator := ""
	v.object(fields{
		"key":      func(v value) { key = v },
		"operator": func(v value) { operator = v.choice(operators...) },
		"value":    func(v value) { wanted = v },
		"message":  nil,
	})
	if key.node == nil || wanted.node == nil || operator == "" {
		v.fail("needs a key, an operator and a value")
		return always
	}
	switch operator {
	case "Equals", "Equal":
		return equal(operand(key), wanted)
	case "NotEquals", "NotEqual":
		return not(equal(operand(key), wanted))
	}
	return in(operand(key), operator, wanted)
}

var operators = []string{"Equals", "Equal", "NotEquals", "NotEqual", "AnyIn", "AllIn", "In", "AnyNotIn", "AllNotIn", "NotIn"}

// operand translates the key of a condition.
func operand(key value) typed {
	if key.node.Kind == yaml.ScalarNode && key.scalar() == "!!bool" {
		return typed{cel: called(key.node.Value), is: boolean}
	}
	return template(key, key.text())
}

// equal is true where a key equals a value; in Kyverno the value is a pattern.
func equal(key typed, wanted value) cel {
	switch isBool := wanted.node.Kind == yaml.ScalarNode && wanted.scalar() == "!!bool"; {
	case key.is == unknown:
		return always
	case key.is == boolean && isBool && wanted.node.Value == "true":
		return key.cel
	case key.is == boolean && isBool:
		return not(key.cel)
	case key.is.isText() && !isBool:
		pattern := fixed(wanted)
		if key.defaultsTo(pattern) {
			return not(cel{text: key.guard, binds: and})
		}
		return matches(key.within(atom), []string{pattern})
	}
	wanted.fail("compares values of two types, which is never true; write what is meant")
	return always
}

// fixed reads a value that is compared with. Kyverno takes some texts for quantities and durations, which are equal in other
// ways than texts.
func fixed(v value) string {
	source := v.text()
	if variable.MatchString(source) {
		v.fail("has {{ }} in what is compared with, where Kyverno takes the result for a pattern; write its value")
		return ""
	}
	_, noQuantity := resource.ParseQuantity(source)
	_, noDuration := time.ParseDuration(source)
	if source != "" && (noQuantity == nil || noDuration == nil) {
		v.fail("is %s, which Kyverno compares as a quantity or duration; write the condition in CEL, as a matchCondition of both policies", quoted(source))
	}
	return template(v, source).fixed
}

// in translates the operators that look for a key in a list.
func in(key typed, operator string, wanted value) cel {
	if wanted.node.Kind != yaml.SequenceNode {
		wanted.fail("is no list; with %s write one", operator)
		return always
	}
	var patterns []string
	wanted.list(func(v value) { patterns = append(patterns, fixed(v)) })
	negative := operator == "AnyNotIn" || operator == "AllNotIn" || operator == "NotIn"
	switch {
	case key.is == unknown:
		return always
	case key.is.isText():
		found := matches(key.within(atom), patterns)
		if negative {
			return not(found)
		}
		return found
	case key.is != textList:
		wanted.fail("is compared with what is neither a text nor a list of texts")
		return always
	case (operator == "In" || operator == "NotIn") && containsWild(patterns):
		wanted.fail("has patterns, which %s takes for texts; use AnyIn, AllIn, AnyNotIn or AllNotIn", operator)
	}
	found := matches("e", patterns)
	if negative {
		found = not(found)
	}
	quantifier := map[string]string{"AnyIn": "exists", "AllIn": "all", "In": "all", "AnyNotIn": "exists", "AllNotIn": "all", "NotIn": "exists"}[operator]
	return called(key.text + "." + quantifier + "(e, " + found.text + ")")
}

func containsWild(patterns []string) bool {
	for _, pattern := range patterns {
		if wild(pattern) {
			return true
		}
	}
	return false
}
