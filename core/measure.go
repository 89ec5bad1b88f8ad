package core

import (
	"errors"
	"strings"

	gojmespath "github.com/kyverno/go-jmespath"
	"github.com/samber/lo"
)

// Bounds on what expressions make of a payload. They let the largest payload through, which is 32 MiB, whole and beside
// its own members, but not what a few characters multiply: {{ [@,@]|[@,@]|... }} doubles it with each step.
const (
	maxValues   = 32 << 20 // in the result of a key or value
	maxBytes    = 64 << 20 // of the texts in it
	maxInText   = 1 << 20  // bytes and values that expressions put into a text
	maxMultiple = 16 << 20 // values that an expression may make of a payload by naming it several times
	fewTimes    = 4        // a payload may be named so often whatever its size
)

// size is what a value takes.
type size struct{ values, bytes int }

// add measures a value, which may be far larger than the memory it takes, since its parts may be shared. It stops past
// the bounds of a result.
func (s *size) add(value any) {
	if s.over() {
		return
	}
	s.values++
	switch v := value.(type) {
	case string:
		s.bytes += len(v)
	case []any:
		for _, element := range v {
			if s.add(element); s.over() {
				return
			}
		}
	case map[string]any:
		for key, member := range v {
			s.bytes += len(key)
			if s.add(member); s.over() {
				return
			}
		}
	}
}

func (s *size) over() bool { return s.values > maxValues || s.bytes > maxBytes }

// copies is how often an expression's result may hold what the expression was given; at most maxMultiple.
func copies(node gojmespath.ASTNode) int {
	n := 1
	for i, child := range node.Children {
		c := copies(child)
		switch node.NodeType {
		case gojmespath.ASTMultiSelectList, gojmespath.ASTMultiSelectHash:
			n = lo.Ternary(i == 0, c, n+c)
		case gojmespath.ASTComparator, gojmespath.ASTAndExpression, gojmespath.ASTOrExpression:
			n = max(n, c)
		default: // one is applied to what the other gave
			n *= c
		}
		n = min(n, maxMultiple)
	}
	return n
}

// errTooLarge is why a function is not called.
var errTooLarge = errors.New("its arguments are too large; select a part of them")

// measured keeps a function from arguments that are too large, or of which it would make something too large: in a
// replacement one text may stand in the place of every byte of another, and in join between all elements of a list.
func measured(name string, function gojmespath.JpFunction) gojmespath.JpFunction {
	multiplies := name == "join" || strings.Contains(name, "replace")
	return func(arguments []any) (any, error) {
		var s size
		s.add(arguments)
		if s.over() || multiplies && product(arguments) > maxBytes {
			return nil, errTooLarge
		}
		return function(arguments)
	}
}

// product is the greatest that the lengths of two of the arguments make.
func product(arguments []any) int {
	longest, most := 0, 0
	for _, argument := range arguments {
		length := 0
		switch a := argument.(type) {
		case string:
			length = len(a)
		case []any:
			length = len(a)
		}
		most = max(most, longest*length)
		longest = max(longest, length)
	}
	return most
}

// builtIn gives those of the library's own functions that make a text of what they are given, measured.
func builtIn() []gojmespath.FunctionEntry {
	library := gojmespath.NewFunctionCaller()
	entry := func(name string, arguments ...gojmespath.JpType) gojmespath.FunctionEntry {
		call := func(arguments []any) (any, error) { return library.CallFunction(name, arguments, nil) }
		specs := lo.Map(arguments, func(t gojmespath.JpType, _ int) gojmespath.ArgSpec {
			return gojmespath.ArgSpec{Types: []gojmespath.JpType{t}}
		})
		return gojmespath.FunctionEntry{Name: name, Arguments: specs, Handler: measured(name, call)}
	}
	return []gojmespath.FunctionEntry{
		entry("join", gojmespath.JpString, gojmespath.JpArrayString), entry("to_string", gojmespath.JpAny),
	}
}

// mentions tells whether a text stands in a value.
func mentions(value any, text string) bool {
	switch v := value.(type) {
	case string:
		return strings.Contains(v, text)
	case []any:
		return lo.ContainsBy(v, func(element any) bool { return mentions(element, text) })
	case map[string]any:
		for key, member := range v {
			if strings.Contains(key, text) || mentions(member, text) {
				return true
			}
		}
		return false
	}
	return strings.Contains(encoded(value), text)
}

// excerpt is the beginning of a value's JSON: enough of it to be shown.
type excerpt struct{ text strings.Builder }

// maxExcerpt has more than maxShown characters, whatever they are; bytes.
const maxExcerpt = 4 * (maxShown + 1)

func (e *excerpt) full() bool { return e.text.Len() > maxExcerpt }

func (e *excerpt) write(value any) {
	switch v := value.(type) {
	case string:
		e.text.WriteString(encoded(v[:min(len(v), 2*maxExcerpt)]))
	case []any:
		e.list(len(v), v == nil, "[]", func(i int) { e.write(v[i]) })
	case map[string]any:
		keys := sortedKeys(v)
		e.list(len(v), v == nil, "{}", func(i int) {
			e.write(keys[i])
			e.text.WriteString(":")
			e.write(v[keys[i]])
		})
	default:
		e.text.WriteString(encoded(v))
	}
}

func (e *excerpt) list(n int, null bool, brackets string, part func(i int)) {
	if null {
		e.text.WriteString("null")
		return
	}
	e.text.WriteString(brackets[:1])
	for i := range n {
		if e.full() {
			return
		}
		if i > 0 {
			e.text.WriteString(",")
		}
		part(i)
	}
	e.text.WriteString(brackets[1:])
}
