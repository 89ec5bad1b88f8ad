package condition

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
)

// collections adds the functions on lists and objects.
func (l functions) collections() {
	l.add("lookup", func(*evaluation, []any) (int, int) { return 1, 0 }, lookup, "object|array", "string|number")
	l.add("items", itemsCost, items, "object|array", "string", "string")
	l.add("object_from_lists", listsCost, objectFromLists, "array", "array")
	l["label_match"] = taking(labelMatch, "object", "object")
}

// lookup gives the member of a name or the element at an index, and null where there is none.
func lookup(a []any) (any, error) {
	if object, ok := a[0].(map[string]any); ok {
		name, ok := a[1].(string)
		if !ok {
			return nil, fault("lookup", "argument #2 is not of type String")
		}
		return object[name], nil
	}
	list, _ := a[0].([]any)
	n, ok := a[1].(float64)
	if !ok {
		return nil, fault("lookup", "argument #2 is not of type Number")
	}
	at, ok := whole(n)
	if !ok && n != math.Trunc(n) {
		return nil, fault("lookup", fmt.Sprintf("argument #2: expected an integer number but got: %g", n))
	}
	if !ok {
		return nil, fault("lookup", fmt.Sprintf("argument #2: number is outside the range of integer numbers: %g", n))
	}
	if at < 0 || at >= int64(len(list)) {
		return nil, nil
	}
	return list[at], nil
}

// items gives an object for each member of an object, in the order of their names, or for each element of a list.
func items(a []any) (any, error) {
	names := [2]string{textOf(a, 1), textOf(a, 2)}
	made := []any{}
	item := func(key, value any) {
		object := map[string]any{names[0]: key}
		object[names[1]] = value
		made = append(made, object)
	}
	switch collection := a[0].(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(collection)) {
			item(name, collection[name])
		}
	case []any:
		for i, element := range collection {
			item(float64(i), element)
		}
	}
	return made, nil
}

// objectFromLists gives members their names and values from two lists; one without a value is null.
func objectFromLists(a []any) (any, error) {
	names, _ := a[0].([]any)
	values, _ := a[1].([]any)
	object := make(map[string]any, len(names))
	for i, element := range names {
		name, ok := nameOf(element)
		if !ok {
			return nil, fault("object_from_lists", "argument #1 is not of type StringArray")
		}
		object[name] = nil
		if i < len(values) {
			object[name] = values[i]
		}
	}
	return object, nil
}

func nameOf(value any) (string, bool) {
	switch v := value.(type) {
	case string, float64:
		return number(v), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

func labelMatch(e *evaluation, a []any, _ int) (any, error) {
	wanted, _ := a[0].(map[string]any)
	labels, _ := a[1].(map[string]any)
	for _, name := range e.names(wanted) {
		if value, ok := labels[name]; !ok || !e.equal(value, wanted[name]) {
			return false, nil
		}
	}
	return true, nil
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
