package condition

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/samber/lo"
)

func length(e *evaluation, a []any, _ int) (any, error) {
	switch v := a[0].(type) {
	case string:
		e.step(len(v) / 4)
		return float64(utf8.RuneCountInString(v)), nil
	case []any:
		return float64(len(v)), nil
	case map[string]any:
		return float64(len(v)), nil
	}
	return nil, errors.New("fails: could not compute length()")
}

func typeOf(_ *evaluation, a []any, _ int) (any, error) {
	switch a[0].(type) {
	case float64:
		return "number", nil
	case string:
		return "string", nil
	case []any:
		return "array", nil
	case map[string]any:
		return "object", nil
	case bool:
		return "boolean", nil
	}
	return "null", nil
}

func affix(has func(text, affix string) bool) func(*evaluation, []any, int) (any, error) {
	return func(e *evaluation, a []any, _ int) (any, error) {
		e.step(len(textOf(a, 1)) / 16)
		return has(textOf(a, 0), textOf(a, 1)), nil
	}
}

func contains(e *evaluation, a []any, _ int) (any, error) {
	if text, ok := a[0].(string); ok {
		part, ok := a[1].(string)
		e.pay("contains", len(text)/2, 0)
		return ok && strings.Contains(text, part), nil
	}
	list, _ := a[0].([]any)
	for _, element := range list {
		_, lists := element.([]any)
		_, objects := element.(map[string]any)
		if lists && e.is("array", a[1]) || objects && e.is("object", a[1]) {
			return nil, errors.New("fails: contains compares neither lists nor objects")
		}
		if e.equal(element, a[1]) {
			return true, nil
		}
	}
	return false, nil
}

func join(e *evaluation, a []any, _ int) (any, error) {
	list, _ := a[1].([]any)
	n := len(textOf(a, 0)) * len(list)
	for _, element := range list {
		text, _ := element.(string)
		n += len(text)
	}
	e.pay("join", 4*len(list)+n/16, slotBytes*len(list)+n)
	return strings.Join(lo.Map(list, func(element any, _ int) string { text, _ := element.(string); return text }), textOf(a, 0)), nil
}

func rounded(round func(float64) float64) func(*evaluation, []any, int) (any, error) {
	return func(e *evaluation, a []any, _ int) (any, error) {
		n, _ := a[0].(float64)
		e.grow(numberBytes)
		return round(n), nil
	}
}

func average(e *evaluation, a []any, _ int) (any, error) {
	list, _ := a[0].([]any)
	e.step(len(list))
	sum := 0.0
	for _, element := range list {
		n, _ := element.(float64)
		sum += n
	}
	return e.finite(sum / float64(len(list))), nil
}

// extreme makes max (sign 1) or min (sign -1) of numbers or strings; null for an empty list.
func extreme(sign int) func(*evaluation, []any, int) (any, error) {
	return func(e *evaluation, a []any, _ int) (any, error) {
		list, _ := a[0].([]any)
		if len(list) == 0 {
			return nil, nil
		}
		best := list[0]
		for _, element := range list[1:] {
			if sign*e.order(element, best) > 0 {
				best = element
			}
		}
		return best, nil
	}
}

// order compares two numbers or two strings.
func (e *evaluation) order(x, y any) int {
	if a, ok := x.(string); ok {
		b, _ := y.(string)
		e.step(2 + min(len(a), len(b))/16)
		return strings.Compare(a, b)
	}
	a, _ := x.(float64)
	b, _ := y.(float64)
	e.step(2)
	return cmp.Compare(a, b)
}

func sorted(e *evaluation, a []any, _ int) (any, error) {
	list, _ := a[0].([]any)
	e.list(2 * len(list))
	copied := append(make([]any, 0, len(list)), list...)
	slices.SortStableFunc(copied, e.order)
	return copied, nil
}

func reversed(e *evaluation, a []any, _ int) (any, error) {
	if text, ok := a[0].(string); ok {
		e.pay("reverse", 2*len(text), 6*len(text))
		runes := []rune(text)
		slices.Reverse(runes)
		return string(runes), nil
	}
	list, _ := a[0].([]any)
	e.list(len(list))
	copied := append(make([]any, 0, len(list)), list...)
	slices.Reverse(copied)
	return copied, nil
}

func keys(e *evaluation, a []any, _ int) (any, error) {
	object, _ := a[0].(map[string]any)
	names := e.names(object)
	e.list(2 * len(names))
	return append(make([]any, 0, len(names)), lo.ToAnySlice(names)...), nil
}

func values(e *evaluation, a []any, _ int) (any, error) {
	list, _ := e.members(a[0])
	return list, nil
}

func merged(e *evaluation, a []any, _ int) (any, error) {
	made := map[string]any{}
	for _, argument := range a {
		object, ok := argument.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("gives a function %s, which takes %q", e.asGiven(argument), "object")
		}
		e.object(2 * len(object))
		for name, member := range object {
			e.step(10)
			made[name] = member
		}
	}
	return made, nil
}

func notNull(e *evaluation, a []any, _ int) (any, error) {
	value, _ := lo.Find(a, func(argument any) bool { return argument != nil })
	if !e.is("any", value) {
		return nil, errors.New("fails: & stands where no function takes an expression")
	}
	return value, nil
}

// given is an argument that is an expression (&).
func given(argument any) unevaluated {
	expression, _ := argument.(unevaluated)
	return expression
}

func mapped(e *evaluation, a []any, depth int) (any, error) {
	list, _ := a[1].([]any)
	return e.apply(given(a[0]), list, depth)
}

// apply applies an expression to each element of a list.
func (e *evaluation) apply(expression unevaluated, list []any, depth int) ([]any, error) {
	e.list(len(list))
	results := make([]any, len(list))
	for i, element := range list {
		result, err := e.present(expression.node, element, depth)
		if err != nil {
			return nil, err
		}
		results[i] = result
	}
	return results, nil
}

// ranked evaluates an expression for each element: the results must be all numbers or all strings. A list of fewer than two
// elements has no ranks, and needs none.
func (e *evaluation) ranked(a []any, depth int) (list, ranks []any, err error) {
	list, _ = a[0].([]any)
	if len(list) < 2 {
		return list, nil, nil
	}
	if ranks, err = e.apply(given(a[1]), list, depth); err != nil {
		return nil, nil, err
	}
	if !every[float64](e, ranks) && !every[string](e, ranks) {
		return nil, nil, errors.New("fails: invalid type, must be number or string for every element")
	}
	return list, ranks, nil
}

func sortedBy(e *evaluation, a []any, depth int) (any, error) {
	list, ranks, err := e.ranked(a, depth)
	if err != nil || ranks == nil {
		return lo.Ternary[any](err == nil, list, nil), err
	}
	e.list(4 * len(list))
	at := lo.Range(len(list))
	slices.SortStableFunc(at, func(i, j int) int { return e.order(ranks[i], ranks[j]) })
	return lo.Map(at, func(i, _ int) any { return list[i] }), nil
}

func extremeBy(sign int) func(*evaluation, []any, int) (any, error) {
	return func(e *evaluation, a []any, depth int) (any, error) {
		list, ranks, err := e.ranked(a, depth)
		if err != nil || len(list) == 0 {
			return nil, err
		}
		best := 0
		for i := range ranks {
			if sign*e.order(ranks[i], ranks[best]) > 0 {
				best = i
			}
		}
		return list[best], nil
	}
}

func toArray(e *evaluation, a []any, _ int) (any, error) {
	if list, ok := a[0].([]any); ok {
		return list, nil
	}
	return a[:1:1], nil
}

func toString(e *evaluation, a []any, _ int) (any, error) {
	if text, ok := a[0].(string); ok {
		return text, nil
	}
	var text strings.Builder
	e.writeJSON(&text, a[0])
	e.grow(2 * text.Len()) // twice, since it is copied as it grows
	return text.String(), nil
}

func toNumber(e *evaluation, a []any, _ int) (any, error) {
	switch v := a[0].(type) {
	case float64:
		return v, nil
	case string:
		e.step(len(v) / 4)
		e.grow(numberBytes)
		if n, err := strconv.ParseFloat(v, 64); err == nil {
			return e.finite(n), nil
		}
	}
	return nil, nil
}
