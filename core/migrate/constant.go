package migrate

import (
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// constant is a value of the policy as an expression, with its type in CEL: lists and maps of one type need no dyn.
type constant struct {
	text string
	is   string
}

// maxIndent bounds how deep a value nests, two for each level.
const maxIndent = 64

// readConstant translates any value. Its texts may have {{ }} in them.
func readConstant(v value, indent string) constant {
	if len(indent) > maxIndent {
		v.fail("nests over %d levels", maxIndent/2)
		return constant{"null", "null"}
	}
	switch v.node.Kind {
	case yaml.SequenceNode:
		var elements []constant
		v.list(func(v value) { elements = append(elements, readConstant(v, indent+"  ")) })
		is := unify(elements)
		return constant{layout("[", texts(elements, nil), "]", indent), "list(" + is + ")"}
	case yaml.MappingNode:
		var keys []string
		var elements []constant
		v.entries(func(key string, v value) {
			if strings.Contains(key, "{{") || strings.Contains(key, "$(") {
				v.fail("has an expression for a key; write the key")
			}
			keys, elements = append(keys, key), append(elements, readConstant(v, indent+"  "))
		})
		is := unify(elements)
		return constant{layout("{", texts(elements, keys), "}", indent), "map(" + is + ")"}
	}
	switch is := v.scalar(); is {
	case "!!bool":
		return constant{v.node.Value, "bool"}
	case "!!int":
		if n, err := strconv.ParseInt(v.node.Value, 10, 64); err != nil || n > 1<<53 || n < -1<<53 {
			v.fail("is a number over 2^53, which JSON does not carry exactly; write it in quotes")
		}
		return constant{v.node.Value, "int"}
	case "!!float":
		if f, err := strconv.ParseFloat(v.node.Value, 64); err != nil || math.IsInf(f, 0) {
			v.fail("is no number")
		}
		return constant{v.node.Value, "double"}
	}
	return constant{template(v, v.text()).text, "string"}
}

// unify gives the one type of elements, and makes them dyn where they have several.
func unify(elements []constant) string {
	for _, element := range elements {
		if element.is != elements[0].is {
			for i := range elements {
				elements[i].text = "dyn(" + elements[i].text + ")"
			}
			return "dyn"
		}
	}
	if len(elements) == 0 {
		return "dyn"
	}
	return elements[0].is
}

func texts(elements []constant, keys []string) []string {
	all := make([]string, len(elements))
	for i, element := range elements {
		all[i] = element.text
		if keys != nil {
			all[i] = literal(keys[i]) + ": " + element.text
		}
	}
	return all
}

// layout writes a list or map on one line if it is short, else with a line for each element.
func layout(open string, elements []string, end, indent string) string {
	line := open + strings.Join(elements, ", ") + end
	if len(line) <= maxLine-len(indent) && !strings.Contains(line, "\n") {
		return line
	}
	return open + "\n" + indent + "  " + strings.Join(elements, ",\n"+indent+"  ") + "\n" + indent + end
}
