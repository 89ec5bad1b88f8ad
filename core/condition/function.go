package condition

import (
	"errors"
	"fmt"
	"math"
	"strings"

	gojmespath "github.com/kyverno/go-jmespath"
	"github.com/kyverno/kyverno/pkg/engine/jmespath"
	"github.com/samber/lo"
)

// function is a function that expressions may call.
type function struct {
	takes    []gojmespath.ArgSpec // types of the arguments; nil for any number of any type
	variadic bool                 // the last argument may repeat, with any type
	call     func(e *evaluation, arguments []any, depth int) (any, error)
}

// library has JMESPath's functions, which are implemented here, and Kyverno's, most of which are called unchanged.
var library = newLibrary()

func newLibrary() map[string]function {
	functions := builtin()
	for _, theirs := range jmespath.GetFunctions(nil) { // only image_normalize uses the configuration, and it is implemented here
		name, entry := theirs.Name, theirs.FunctionEntry
		if call, ok := replaced()[name]; ok {
			functions[name] = function{takes: entry.Arguments, call: call}
		} else if cost, ok := costs()[name]; ok {
			functions[name] = function{takes: entry.Arguments, call: charged(name, cost, entry.Handler)}
		}
	}
	return functions
}

// cost estimates the steps and bytes of a call before it is made.
type cost func(e *evaluation, arguments []any) (steps, bytes int)

// charged pays for a call and makes it.
func charged(name string, cost cost, handler gojmespath.JpFunction) func(*evaluation, []any, int) (any, error) {
	return func(e *evaluation, arguments []any, _ int) (any, error) {
		steps, bytes := cost(e, arguments)
		e.pay(name, steps, bytes)
		result, err := handler(arguments)
		if err != nil {
			return nil, fmt.Errorf("fails: %s", cut(err.Error()))
		}
		return e.plain(result), nil
	}
}

// pay pays for a call that cannot be interrupted.
func (e *evaluation) pay(name string, steps, bytes int) {
	if steps > maxCall {
		refuse("the expression %q gives the function %s arguments that are too large; select a part of them", quoted(e.expression), name)
	}
	e.step(100 + steps)
	e.grow(100 + bytes)
}

// plain converts a result of Kyverno's functions to the types of decoded JSON.
func (e *evaluation) plain(value any) any {
	switch v := value.(type) {
	case int:
		return float64(v)
	case float64:
		return e.finite(v)
	case []map[string]any:
		return lo.Map(v, func(object map[string]any, _ int) any { return object })
	}
	return value
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

// costs has the costs of the functions of Kyverno that are called unchanged.
func costs() map[string]cost {
	costs := map[string]cost{
		"trim":  func(_ *evaluation, a []any) (int, int) { return (len(textOf(a, 0)) + 1) * (1 + len(textOf(a, 1))/4), 0 },
		"split": splitCost, "replace": replaceCost, "replace_all": replaceCost,
		"lookup": func(*evaluation, []any) (int, int) { return 1, 0 },
		"items":  itemsCost, "object_from_lists": listsCost, "sum": sumCost, "round": small,
		"semver_compare": short(4096, 100, 800), "x509_decode": short(32<<10, 100, 50), "parse_yaml": yamlCost,
	}
	for _, name := range []string{"compare", "equal_fold", "to_upper", "to_lower", "trim_prefix", "to_boolean", "base64_decode", "base64_encode", "path_canonicalize", "truncate"} {
		costs[name] = func(_ *evaluation, a []any) (int, int) { return 4 * lengths(a), 4 * lengths(a) }
	}
	for _, name := range []string{"sha256", "sha1", "md5"} {
		costs[name] = func(_ *evaluation, a []any) (int, int) { return 4 * lengths(a), lengths(a) }
	}
	for _, name := range []string{"add", "subtract", "multiply", "divide", "modulo"} {
		costs[name] = small
	}
	for _, name := range []string{"time_add", "time_parse", "time_to_cron", "time_utc", "time_diff", "time_before", "time_after", "time_between", "time_truncate"} {
		costs[name] = short(maxNumber, 4, 4)
	}
	return costs
}

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

// small is the cost of computing with numbers, quantities and durations.
func small(e *evaluation, arguments []any) (int, int) {
	for i := range arguments {
		e.operand(textOf(arguments, i))
	}
	return 500, 500
}

// operand refuses a string whose number or quantity takes long to compute with.
func (e *evaluation) operand(text string) {
	if len(text) > maxQuantity {
		refuse("the expression %q computes with a text of %d bytes", quoted(e.expression), len(text))
	}
	e.quantity(text)
}

func sumCost(e *evaluation, arguments []any) (int, int) {
	list, _ := arguments[0].([]any)
	for i := range list {
		e.operand(textOf(list, i))
	}
	return 200 * len(list), 200 * len(list)
}

func splitCost(_ *evaluation, arguments []any) (int, int) {
	text := textOf(arguments, 0)
	n := strings.Count(text, textOf(arguments, 1)) + 1
	return len(text) + 10*n, 4 * slotBytes * n
}

func itemsCost(e *evaluation, arguments []any) (int, int) {
	n := 0
	switch collection := arguments[0].(type) {
	case map[string]any:
		n = len(collection)
	case []any:
		n = len(collection)
	}
	return 100 * n, n * (mapBytes + 8*memberBytes + 4*slotBytes)
}

func listsCost(_ *evaluation, arguments []any) (int, int) {
	names, _ := arguments[0].([]any)
	return 40 * len(names), mapBytes + objectRoom(len(names))*2*memberBytes
}

// replaceCost is the cost of replace_all, by the length of its result.
func replaceCost(_ *evaluation, arguments []any) (int, int) {
	text, old, by := textOf(arguments, 0), textOf(arguments, 1), textOf(arguments, 2)
	n := strings.Count(text, old)
	made := len(text) + n*max(len(by)-len(old), 0)
	return len(text) + n + made/16, made
}

// builtin has the functions of JMESPath itself.
func builtin() map[string]function {
	one := func(call func(e *evaluation, a []any, depth int) (any, error), types ...[]gojmespath.JpType) function {
		return function{call: call, takes: lo.Map(types, func(t []gojmespath.JpType, _ int) gojmespath.ArgSpec { return gojmespath.ArgSpec{Types: t} })}
	}
	or := func(types ...gojmespath.JpType) []gojmespath.JpType { return types }
	number, text, list, object := or(gojmespath.JpNumber), or(gojmespath.JpString), or(gojmespath.JpArray), or(gojmespath.JpObject)
	numbers, texts, any, expression := or(gojmespath.JpArrayNumber), or(gojmespath.JpArrayString), or(gojmespath.JpAny), or(gojmespath.JpExpref)
	numbersOrTexts := or(gojmespath.JpArrayNumber, gojmespath.JpArrayString)
	merge, notNull := one(merged, object), one(notNull, any)
	merge.variadic, notNull.variadic = true, true
	return map[string]function{
		"length": one(length, or(gojmespath.JpString, gojmespath.JpArray, gojmespath.JpObject)), "type": one(typeOf, any),
		"starts_with": one(affix(strings.HasPrefix), text, text), "ends_with": one(affix(strings.HasSuffix), text, text),
		"contains": one(contains, or(gojmespath.JpArray, gojmespath.JpString), any), "join": one(join, text, texts),
		"abs": one(rounded(math.Abs), number), "ceil": one(rounded(math.Ceil), number), "floor": one(rounded(math.Floor), number),
		"avg": one(average, numbers), "max": one(extreme(1), numbersOrTexts), "min": one(extreme(-1), numbersOrTexts),
		"sort": one(sorted, or(gojmespath.JpArrayString, gojmespath.JpArrayNumber)), "reverse": one(reversed, or(gojmespath.JpArray, gojmespath.JpString)),
		"keys": one(keys, object), "values": one(values, object), "merge": merge, "not_null": notNull,
		"map": one(mapped, expression, list), "sort_by": one(sortedBy, list, expression),
		"max_by": one(extremeBy(1), list, expression), "min_by": one(extremeBy(-1), list, expression),
		"to_array": one(toArray, any), "to_string": one(toString, any), "to_number": one(toNumber, any),
	}
}
