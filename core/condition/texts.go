package condition

import (
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/blang/semver/v4"
	"github.com/distribution/reference"
)

// texts adds the functions that compare texts and change them.
func (l functions) texts() {
	l.add("compare", linear, func(a []any) (any, error) { return float64(strings.Compare(textOf(a, 0), textOf(a, 1))), nil }, "string", "string")
	l.add("equal_fold", linear, func(a []any) (any, error) { return strings.EqualFold(textOf(a, 0), textOf(a, 1)), nil }, "string", "string")
	l.add("to_upper", linear, func(a []any) (any, error) { return strings.ToUpper(textOf(a, 0)), nil }, "string")
	l.add("to_lower", linear, func(a []any) (any, error) { return strings.ToLower(textOf(a, 0)), nil }, "string")
	l.add("to_boolean", linear, toBoolean, "string")
	l.add("trim", trimCost, func(a []any) (any, error) { return strings.Trim(textOf(a, 0), textOf(a, 1)), nil }, "string", "string")
	l.add("trim_prefix", linear, func(a []any) (any, error) { return strings.TrimPrefix(textOf(a, 0), textOf(a, 1)), nil }, "string", "string")
	l.add("truncate", linear, truncate, "string", "number")
	l.add("split", splitCost, split, "string", "string")
	l.add("replace", replaceCost, replace, "string", "string", "string", "number")
	l.add("replace_all", replaceCost, func(a []any) (any, error) { return strings.ReplaceAll(textOf(a, 0), textOf(a, 1), textOf(a, 2)), nil }, "string", "string", "string")
	l.add("path_canonicalize", linear, func(a []any) (any, error) { return path.Join(textOf(a, 0)), nil }, "string")
	l.add("semver_compare", short(4096, 100, 800), semverCompare, "string", "string")
	l["pattern_match"] = taking(patternMatch, "string", "string|number")
	l["image_normalize"] = taking(imageNormalize, "string")
}

func toBoolean(a []any) (any, error) {
	switch strings.ToLower(textOf(a, 0)) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return nil, fault("to_boolean", fmt.Sprintf("lowercase argument must be 'true' or 'false' (provided: '%s')", textOf(a, 0)))
}

// truncate keeps the first characters. As in Kyverno, none are kept where their number is no integer of 64 bits.
func truncate(a []any) (any, error) {
	text := textOf(a, 0)
	length, _ := a[1].(float64)
	most, ok := whole(math.Trunc(length))
	switch {
	case !ok || most < 1:
		return "", nil
	case most >= int64(utf8.RuneCountInString(text)):
		return text, nil
	}
	return string([]rune(text)[:most]), nil
}

func split(a []any) (any, error) {
	parts := strings.Split(textOf(a, 0), textOf(a, 1))
	list := make([]any, len(parts))
	for i, part := range parts {
		list[i] = part
	}
	return list, nil
}

// replace replaces the first occurrences, and all where their number is negative.
func replace(a []any) (any, error) {
	n, _ := a[3].(float64)
	return strings.Replace(textOf(a, 0), textOf(a, 1), textOf(a, 2), int(max(min(n, math.MaxInt32), -1))), nil
}

// semverCompare tells whether a version is in a range. As in Kyverno, what is no version counts as 0.0.0.
func semverCompare(a []any) (any, error) {
	version, err := semver.Parse(textOf(a, 0))
	if err != nil {
		version = semver.Version{}
	}
	isWithin, err := semver.ParseRange(textOf(a, 1))
	if err != nil {
		return nil, err
	}
	return isWithin(version), nil
}

func patternMatch(e *evaluation, a []any, _ int) (any, error) {
	return e.match(textOf(a, 0), number(a[1])), nil
}

// trimCost is that of looking at each character for those to be trimmed.
func trimCost(_ *evaluation, a []any) (int, int) {
	return (len(textOf(a, 0)) + 1) * (1 + len(textOf(a, 1))/4), 0
}

func splitCost(_ *evaluation, arguments []any) (int, int) {
	text := textOf(arguments, 0)
	n := strings.Count(text, textOf(arguments, 1)) + 1
	return len(text) + 10*n, 4 * slotBytes * n
}

// replaceCost is the cost of replace_all, by the length of its result.
func replaceCost(_ *evaluation, arguments []any) (int, int) {
	text, old, by := textOf(arguments, 0), textOf(arguments, 1), textOf(arguments, 2)
	n := strings.Count(text, old)
	made := len(text) + n*max(len(by)-len(old), 0)
	return len(text) + n + made/16, made
}

// number formats a number as Kyverno's string functions do.
func number(value any) string {
	if n, ok := value.(float64); ok {
		return strconv.FormatFloat(n, 'f', -1, 32)
	}
	text, _ := value.(string)
	return text
}

// imageNormalize gives a reference with its registry, and with its tag where it has no digest.
func imageNormalize(e *evaluation, a []any, _ int) (any, error) {
	steps, bytes := short(maxNumber, 100, 100)(e, a)
	e.pay("image_normalize", steps, bytes)
	name := textOf(a, 0)
	host, _, found := strings.Cut(name, "/")
	if !found || !strings.ContainsAny(host, ".:") && host != "localhost" && strings.ToLower(host) == host {
		name = "docker.io/" + name
	}
	parsed, err := reference.Parse(name)
	if err != nil {
		return nil, fmt.Errorf("fails: %s is no image reference: %v", cut(name), err)
	}
	named, ok := parsed.(reference.Named)
	if !ok {
		return nil, fmt.Errorf("fails: %s is no image reference", cut(name))
	}
	if digested, ok := parsed.(reference.Digested); ok {
		return named.Name() + "@" + digested.Digest().String(), nil
	}
	tag := "latest"
	if tagged, ok := parsed.(reference.Tagged); ok {
		tag = tagged.Tag()
	}
	return named.Name() + ":" + tag, nil
}
