package migrate

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// value is a node of a document, and where it is.
type value struct {
	node  *yaml.Node
	field string
	into  *problems
}

// fail records what is wrong with the value.
func (v value) fail(format string, args ...any) { v.into.add(v.node.Line, v.field, format, args...) }

// fields are the known fields of an object, each with what reads it; nil accepts any value and ignores it.
type fields map[string]func(value)

// object reads a mapping. Unknown and doubled fields, and nulls, are errors.
func (v value) object(known fields) {
	if v.node.Kind != yaml.MappingNode {
		v.fail("is no object")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key := v.node.Content[i]
		name := key.Value
		field := value{v.node.Content[i+1], join(v.field, name), v.into}
		read, exists := known[name]
		switch {
		case key.Kind != yaml.ScalarNode || key.Tag == "!!merge":
			v.into.add(key.Line, v.field, "has a key that is no text; write the fields out")
		case seen[name]:
			v.into.add(key.Line, field.field, "stands there twice; remove one")
		case !exists:
			v.into.add(key.Line, field.field, "is not known here, so it cannot be carried over; remove it, or write the policy by hand")
		case read != nil && field.present():
			read(field)
		}
		seen[name] = true
	}
}

// present reports a null or an alias, which no field may be.
func (v value) present() bool {
	switch {
	case v.node.Kind == yaml.AliasNode || v.node.Anchor != "":
		v.fail("uses an anchor; write the value out")
	case v.node.Tag == "!!null":
		v.fail("is empty; remove the field, or give it a value")
	default:
		return true
	}
	return false
}

func join(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

// list reads a sequence.
func (v value) list(read func(value)) {
	if v.node.Kind != yaml.SequenceNode || len(v.node.Content) == 0 {
		v.fail("is no list with an entry")
		return
	}
	for i, node := range v.node.Content {
		if element := (value{node, fmt.Sprintf("%s[%d]", v.field, i), v.into}); element.present() {
			read(element)
		}
	}
}

// entries reads a mapping of any keys to texts, in the order of the document.
func (v value) entries(read func(key string, text value)) {
	if v.node.Kind != yaml.MappingNode {
		v.fail("is no object")
		return
	}
	known := fields{}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key := v.node.Content[i].Value
		known[key] = func(text value) { read(key, text) }
	}
	v.object(known)
}

// text reads a string.
func (v value) text() string {
	if v.node.Kind != yaml.ScalarNode || v.scalar() != "!!str" {
		v.fail("is no text; write it in quotes")
		return ""
	}
	return v.node.Value
}

// texts reads a list of strings.
func (v value) texts() (all []string) {
	v.list(func(element value) { all = append(all, element.text()) })
	return all
}

// boolean reads true or false.
func (v value) boolean() bool {
	if v.node.Kind != yaml.ScalarNode || v.scalar() != "!!bool" {
		v.fail("is neither true nor false")
	}
	return v.node.Value == "true"
}

// number reads an integer within bounds.
func (v value) number(least, most int) int {
	n, err := strconv.Atoi(v.node.Value)
	if v.node.Kind != yaml.ScalarNode || v.scalar() != "!!int" || err != nil || n < least || n > most {
		v.fail("is no number from %d to %d", least, most)
		return least
	}
	return n
}

// choice reads one of a few strings.
func (v value) choice(choices ...string) string {
	text := v.text()
	for _, choice := range choices {
		if text == choice {
			return text
		}
	}
	if text != "" {
		v.fail("is %s; known are %s", quoted(text), strings.Join(choices, ", "))
	}
	return choices[0]
}

var (
	decimal   = regexp.MustCompile(`^(0|-?[1-9][0-9]{0,15})$`)
	fraction  = regexp.MustCompile(`^-?(0|[1-9][0-9]{0,15})\.[0-9]{1,15}$`)
	ambiguous = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off)$|^[-+.]?[0-9][0-9a-fxo_:.+-]*$`)
)

// scalar gives the type of a scalar. Versions of YAML disagree on what some plain scalars are, such as yes or 0x1f; those must
// be quoted.
func (v value) scalar() string {
	text := v.node.Value
	plain := v.node.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	switch {
	case v.node.Style&yaml.TaggedStyle != 0:
		v.fail("has a tag; write the value without it")
	case !plain:
		return "!!str"
	case text == "true" || text == "false":
		return "!!bool"
	case decimal.MatchString(text):
		return "!!int"
	case fraction.MatchString(text):
		return "!!float"
	case v.node.Tag != "!!str" || ambiguous.MatchString(text):
		v.fail("is %s, which versions of YAML read in different ways; write it in quotes", quoted(text))
	}
	return "!!str"
}
