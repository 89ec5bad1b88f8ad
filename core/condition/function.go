package condition

import (
	"errors"
	"fmt"
	"math"
	"strings"

	gojmespath "github.com/kyverno/go-jmespath"
	"github.com/samber/lo"
)

// function is a function that expressions may call.
type function struct {
	takes    []gojmespath.ArgSpec // types of the arguments; nil for any number of any type
	variadic bool                 // the last argument may repeat, with any type
	call     func(e *evaluation, arguments []any, depth int) (any, error)
}

// library has JMESPath's functions, and Kyverno's of version 1.19.
var library = newLibrary()

// functions are known by their names.
type functions map[string]function

func newLibrary() functions {
	library := builtin()
	library.texts()
	library.regularExpressions()
	library.arithmetic()
	library.collections()
	library.times()
	library.encodings()
	library.certificates()
	library["random"] = taking(unavailable("random gives another text each time and is not available here"), "string")
	library["is_external_url"] = taking(unavailable("is_external_url asks the network and is not available here"), "string")
	return library
}

// add adds a function that computes its value from its arguments alone, once its cost is paid.
func (l functions) add(name string, cost cost, compute func(a []any) (any, error), types ...string) {
	l[name] = taking(charged(name, cost, compute), types...)
}

// taking is a function with the types of its arguments, a | between those that may stand for each other.
func taking(call func(e *evaluation, a []any, depth int) (any, error), types ...string) function {
	return function{call: call, takes: lo.Map(types, func(names string, _ int) gojmespath.ArgSpec {
		return gojmespath.ArgSpec{Types: lo.Map(strings.Split(names, "|"), func(name string, _ int) gojmespath.JpType { return gojmespath.JpType(name) })}
	})}
}

// cost estimates the steps and bytes of a call before it is made.
type cost func(e *evaluation, arguments []any) (steps, bytes int)

// charged pays for a call and makes it.
func charged(name string, cost cost, compute func(a []any) (any, error)) func(*evaluation, []any, int) (any, error) {
	return func(e *evaluation, arguments []any, _ int) (any, error) {
		steps, bytes := cost(e, arguments)
		e.pay(name, steps, bytes)
		result, err := compute(arguments)
		if err != nil {
			return nil, fmt.Errorf("fails: %s", cut(err.Error()))
		}
		if n, ok := result.(float64); ok {
			return e.finite(n), nil
		}
		return result, nil
	}
}

func unavailable(sentence string) func(*evaluation, []any, int) (any, error) {
	return func(e *evaluation, _ []any, _ int) (any, error) {
		refuse("the expression %q fails: %s", quoted(e.expression), sentence)
		return nil, nil
	}
}

// fault is an error of a function, in Kyverno's words.
func fault(name, text string) error {
	return fmt.Errorf("JMESPath function '%s': %s", name, text)
}

// pay pays for a call that cannot be interrupted.
func (e *evaluation) pay(name string, steps, bytes int) {
	if steps > maxCall {
		refuse("the expression %q gives the function %s arguments that are too large; select a part of them", quoted(e.expression), name)
	}
	e.step(100 + steps)
	e.grow(100 + bytes)
}

// finite refuses numbers that JSON lacks, NaN and infinity, since comparisons with them mean nothing.
func (e *evaluation) finite(n float64) float64 {
	if math.IsNaN(n) || math.IsInf(n, 0) {
		refuse("the expression %q gives no finite number", quoted(e.expression))
	}
	return n
}

// check checks arguments against the types that a function takes.
func (f function) check(e *evaluation, arguments []any) error {
	switch {
	case len(f.takes) == 0:
		return nil
	case f.variadic && len(arguments) >= len(f.takes):
		return nil
	case len(f.takes) != len(arguments):
		return errors.New("fails: incorrect number of args")
	}
	for i, spec := range f.takes {
		if !lo.ContainsBy(spec.Types, func(t gojmespath.JpType) bool { return e.is(t, arguments[i]) }) {
			types := lo.Map(spec.Types, func(t gojmespath.JpType, _ int) string { return fmt.Sprintf("%q", t) })
			return fmt.Errorf("gives a function %s, which takes %s", e.asGiven(arguments[i]), strings.Join(types, ", "))
		}
	}
	return nil
}

// asGiven shows an argument in an error.
func (b *budget) asGiven(argument any) string {
	if text, ok := argument.(string); ok {
		return cut(text)
	}
	return b.shown(argument)
}

// is tells whether an argument is of a type.
func (e *evaluation) is(t gojmespath.JpType, argument any) (ok bool) {
	switch t {
	case gojmespath.JpNumber:
		_, ok = argument.(float64)
	case gojmespath.JpString:
		_, ok = argument.(string)
	case gojmespath.JpArray:
		_, ok = argument.([]any)
	case gojmespath.JpObject:
		_, ok = argument.(map[string]any)
	case gojmespath.JpArrayNumber:
		ok = every[float64](e, argument)
	case gojmespath.JpArrayString:
		ok = every[string](e, argument)
	case gojmespath.JpExpref:
		_, ok = argument.(unevaluated)
	case gojmespath.JpAny:
		_, isReference := argument.(unevaluated)
		ok = !isReference
	}
	return ok
}

// every tells whether an argument is a list of values of one type.
func every[T any](e *evaluation, argument any) bool {
	list, ok := argument.([]any)
	if !ok {
		return false
	}
	e.step(len(list))
	return lo.EveryBy(list, func(element any) bool { _, ok := element.(T); return ok })
}

// textOf is an argument that check found to be a string.
func textOf(arguments []any, i int) string {
	text, _ := arguments[i].(string)
	return text
}

func lengths(arguments []any) int {
	return lo.SumBy(arguments, func(argument any) int {
		text, _ := argument.(string)
		return len(text)
	})
}

// linear is the cost of a function that reads its texts a few times.
func linear(_ *evaluation, a []any) (steps, bytes int) { return 4 * lengths(a), 4 * lengths(a) }

// short is the cost of a function that is called only with strings up to a length.
func short(most, steps, bytes int) cost {
	return func(e *evaluation, arguments []any) (int, int) {
		n := lengths(arguments)
		if n > most {
			refuse("the expression %q gives a function %d bytes of text; at most %d are read", quoted(e.expression), n, most)
		}
		return 500 + n*steps, 500 + n*bytes
	}
}

// builtin has the functions of JMESPath itself.
func builtin() functions {
	merge, notNull := taking(merged, "object"), taking(notNull, "any")
	merge.variadic, notNull.variadic = true, true
	return functions{
		"length": taking(length, "string|array|object"), "type": taking(typeOf, "any"),
		"starts_with": taking(affix(strings.HasPrefix), "string", "string"), "ends_with": taking(affix(strings.HasSuffix), "string", "string"),
		"contains": taking(contains, "array|string", "any"), "join": taking(join, "string", "array[string]"),
		"abs": taking(rounded(math.Abs), "number"), "ceil": taking(rounded(math.Ceil), "number"), "floor": taking(rounded(math.Floor), "number"),
		"avg": taking(average, "array[number]"), "max": taking(extreme(1), "array[number]|array[string]"), "min": taking(extreme(-1), "array[number]|array[string]"),
		"sort": taking(sorted, "array[string]|array[number]"), "reverse": taking(reversed, "array|string"),
		"keys": taking(keys, "object"), "values": taking(values, "object"), "merge": merge, "not_null": notNull,
		"map": taking(mapped, "expref", "array"), "sort_by": taking(sortedBy, "array", "expref"),
		"max_by": taking(extremeBy(1), "array", "expref"), "min_by": taking(extremeBy(-1), "array", "expref"),
		"to_array": taking(toArray, "any"), "to_string": taking(toString, "any"), "to_number": taking(toNumber, "any"),
	}
}
