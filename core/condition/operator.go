package condition

import (
	"cmp"
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/blang/semver/v4"
	"github.com/samber/lo"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// comparison compares a key with a value by an operator.
type comparison struct {
	*budget
	key, value any

	// patternOfKey and patternOfValue tell whether * and ? in element i of the key, or of the value, are wildcards; -1 stands
	// for the whole. Those that come from the document are not, so that a document cannot meet a condition by containing *.
	patternOfKey, patternOfValue func(i int) bool
}

// holds tells whether the operator holds.
func (c comparison) holds(operator string) bool {
	switch operator {
	case "Equal", "Equals":
		return c.equals(c.patternOfValue(-1))
	case "NotEqual", "NotEquals":
		return c.key != nil && !c.equals(true)
	case "In", "NotIn", "AnyIn", "AnyNotIn", "AllIn", "AllNotIn":
		return c.member(operator)
	}
	if kind, ok := strings.CutPrefix(operator, "Duration"); ok {
		return c.durations(kind)
	}
	return c.orders(operator)
}

// equals compares by the key's type. A string is compared as a duration, as a quantity, or with a pattern.
func (c comparison) equals(pattern bool) bool {
	switch key := c.key.(type) {
	case bool:
		return c.value == key
	case float64:
		switch value := c.value.(type) {
		case float64:
			return value == key
		case string:
			number, ok := c.float(value)
			return ok && number == key
		}
		return false
	case string:
		return c.equalsText(key, pattern)
	case []any, map[string]any:
		return c.equal(key, c.value)
	}
	return false
}

func (c comparison) equalsText(key string, pattern bool) bool {
	if x, y, ok := c.bothDurations(); ok {
		return x.Seconds() == y.Seconds()
	}
	value, ok := c.value.(string)
	if !ok {
		return false
	}
	if quantity, ok := c.quantity(key); ok {
		other, ok := c.quantity(value)
		return ok && quantity.Equal(other)
	}
	return c.matches(value, key, pattern)
}

// matches compares a string with an expected one.
func (c comparison) matches(pattern, text string, isPattern bool) bool {
	return c.prepared(pattern, isPattern).matches(c.budget, text)
}

// expected is a string to compare with, in which * and ? may be wildcards.
type expected struct {
	text      string
	isPattern bool
}

func (c comparison) prepared(text string, isPattern bool) expected {
	c.step(2 + len(text)/4)
	return expected{text, isPattern && strings.ContainsAny(text, "*?")}
}

func (e expected) matches(b *budget, text string) bool {
	if e.isPattern {
		return b.match(e.text, text)
	}
	return b.same(e.text, text)
}

// orders compares durations, quantities, numbers or versions by their order.
func (c comparison) orders(operator string) bool {
	key, isText := c.key.(string)
	number, isNumber := c.key.(float64)
	if !isText && !isNumber {
		return false
	}
	if x, y, ok := c.bothDurations(); ok {
		return ordered(operator, cmp.Compare(x.Seconds(), y.Seconds()))
	}
	value, valueIsText := c.value.(string)
	if isText {
		if x, ok := c.quantity(key); ok && valueIsText {
			if y, ok := c.quantity(value); ok {
				return ordered(operator, x.Cmp(y))
			}
		}
		number, ok := c.float(key)
		if !ok {
			return c.versions(operator, key)
		}
		c.key = number
		return !math.IsNaN(number) && c.orders(operator)
	}
	other, ok := c.value.(float64)
	if valueIsText {
		other, ok = c.float(value)
	}
	return ok && !math.IsNaN(other) && ordered(operator, cmp.Compare(number, other))
}

func (c comparison) versions(operator, key string) bool {
	value, ok := c.value.(string)
	if !ok || len(key) > maxNumber || len(value) > maxNumber {
		return false
	}
	c.step(len(key) + len(value))
	x, err := semver.Parse(key)
	y, other := semver.Parse(value)
	return err == nil && other == nil && ordered(operator, x.Compare(y))
}

// ordered tells whether a comparison's result, negative, zero or positive, satisfies an operator.
func ordered(operator string, order int) bool {
	switch operator {
	case "GreaterThanOrEquals", ">=":
		return order >= 0
	case "GreaterThan", ">":
		return order > 0
	case "LessThanOrEquals", "<=":
		return order <= 0
	case "LessThan", "<":
		return order < 0
	}
	return false
}

// durations compares durations. Numbers are seconds.
func (c comparison) durations(operator string) bool {
	x, ok := c.duration(c.key)
	y, other := c.duration(c.value)
	return ok && other && ordered(operator, cmp.Compare(x, y))
}

func (c comparison) duration(value any) (time.Duration, bool) {
	switch v := value.(type) {
	case float64:
		return time.Duration(v) * time.Second, true
	case string:
		c.step(len(v) / 4)
		duration, err := time.ParseDuration(v)
		return duration, err == nil
	}
	return 0, false
}

// bothDurations reads key and value as durations. At least one must be written as a duration.
func (c comparison) bothDurations() (x, y time.Duration, ok bool) {
	written := func(value any) bool {
		text, isText := value.(string)
		_, ok := c.duration(value)
		return isText && ok && text != "0"
	}
	if !written(c.key) && !written(c.value) {
		return 0, 0, false
	}
	if c.key == "0" || c.value == "0" {
		return 0, 0, false
	}
	x, ok = c.duration(c.key)
	y, other := c.duration(c.value)
	return x, y, ok && other
}

// float parses a string as a number.
func (c comparison) float(text string) (float64, bool) {
	c.step(len(text) / 4)
	number, err := strconv.ParseFloat(text, 64)
	return number, err == nil
}

// quantityShape matches what may be a quantity: a number with a unit or a decimal exponent.
var quantityShape = regexp.MustCompile(`^[+-]?[0-9.]+(?:[a-zA-Z]{0,2}|[eE]([+-]?[0-9]+))$`)

// maxQuantity bounds the length of a quantity, bytes, and maxExponent its exponent.
const (
	maxQuantity = 200
	maxExponent = 400
)

// quantity parses a string as a quantity of Kubernetes. Kubernetes computes with as many digits as the exponent says, so it is
// bounded.
func (b *budget) quantity(text string) (resource.Quantity, bool) {
	if text == "" || strings.Trim(text[:1], "+-.0123456789") != "" {
		return resource.Quantity{}, false
	}
	if len(text) > maxQuantity {
		if strings.Trim(text, "0123456789.") == "" {
			refuse("a number of %d digits is out of range", len(text))
		}
		return resource.Quantity{}, false
	}
	b.step(100 + len(text))
	match := quantityShape.FindStringSubmatch(text)
	if match == nil {
		return resource.Quantity{}, false
	}
	if match[1] != "" {
		if exponent, err := strconv.Atoi(match[1]); err != nil || exponent > maxExponent || exponent < -maxExponent {
			refuse("the quantity %s is out of range", reason.Clip(text, maxShown))
		}
	}
	quantity, err := resource.ParseQuantity(text)
	return quantity, err == nil
}

// member tells whether the key, or its elements, are in the value, as the operator demands.
func (c comparison) member(operator string) bool {
	switch key := c.key.(type) {
	case nil, map[string]any:
		return false
	case []any:
		return c.elements(operator, key)
	}
	text := c.printed(c.key)
	not := strings.Contains(operator, "Not")
	found, ok := c.contains(text, c.patternOfKey(-1) || not, not, strings.HasPrefix(operator, "A"))
	return ok && found != not
}

// contains tells whether a string is in the value: a list, a range, a pattern or a list encoded as JSON. It is not ok where the
// value is none of them.
func (c comparison) contains(text string, pattern, not, ranges bool) (found, ok bool) {
	switch value := c.value.(type) {
	case []any:
		key := c.prepared(text, pattern)
		for i, element := range value {
			if c.meet(key, c.prepared(c.printed(element), c.patternOfValue(i) || not)) {
				return true, true
			}
		}
		return false, true
	case string:
		if c.matches(value, text, c.patternOfValue(-1) || not) {
			return true, true
		}
		if left, right, ok := c.span(value); ok && ranges {
			return c.within(text, left, right), true
		}
		texts, ok := c.listed(value, ranges)
		return ok && lo.ContainsBy(texts, func(other string) bool { return c.same(other, text) }), ok
	}
	return false, false
}

// meet tells whether one of two strings matches the other.
func (c comparison) meet(key, value expected) bool {
	return value.matches(c.budget, key.text) || key.isPattern && key.matches(c.budget, value.text)
}

// listed parses a string as a JSON list of strings. Where single is set, a string that is not JSON is a list of itself.
func (c comparison) listed(text string, single bool) ([]string, bool) {
	c.grow(len(text))
	value, err := decode([]byte(text), c.budget)
	var syntax errSyntax
	switch {
	case err == nil:
	case !errors.As(err, &syntax):
		refuse("the value %s cannot be read: %v", c.shown(text), err)
	case single:
		return []string{text}, true
	default:
		return nil, false
	}
	if value == nil {
		return nil, true
	}
	list, ok := value.([]any)
	if !ok {
		return nil, false
	}
	return c.texts(list, func(element any) bool { return element == nil })
}

// texts gives a list's elements as strings; not ok where one is not a string. Elements for which empty is true count as "".
func (c comparison) texts(list []any, empty func(any) bool) ([]string, bool) {
	c.list(len(list))
	texts := make([]string, len(list))
	for i, element := range list {
		text, ok := element.(string)
		if !ok && !empty(element) {
			return nil, false
		}
		texts[i] = text
	}
	return texts, true
}

// elements is member for a key that is a list.
func (c comparison) elements(operator string, key []any) bool {
	if operator == "In" || operator == "NotIn" {
		return c.subset(operator, key)
	}
	not := strings.HasSuffix(operator, "NotIn")
	c.list(len(key))
	texts := lo.Map(key, func(element any, _ int) string { return c.printed(element) })
	is, ok := c.test(operator, texts, not)
	if !ok {
		return false
	}
	for i := range texts {
		switch is(i) {
		case true:
			if operator == "AnyIn" || operator == "AllNotIn" {
				return operator == "AnyIn"
			}
		case false:
			if operator == "AllIn" || operator == "AnyNotIn" {
				return operator == "AnyNotIn"
			}
		}
	}
	return operator == "AllIn" || operator == "AllNotIn"
}

// test gives the function that tells whether a string of the key is in the value.
func (c comparison) test(operator string, key []string, not bool) (is func(i int) bool, ok bool) {
	var values []string
	whole := -1 // the index of a value that is not a list
	switch value := c.value.(type) {
	case []any:
		c.list(2 * len(value))
		values, whole = lo.Map(value, func(element any, _ int) string { return c.printed(element) }), 0
	case float64, bool:
		if strings.HasPrefix(operator, "All") {
			return nil, false
		}
		values = []string{c.printed(value)}
	case string:
		if len(key) == 1 && c.same(key[0], value) {
			return func(int) bool { return true }, true
		}
		if left, right, ok := c.span(value); ok {
			// A string that cannot be compared with a range is neither inside nor, for AnyNotIn, outside of it.
			return func(i int) bool {
				return c.within(key[i], left, right) || operator == "AnyNotIn" && !c.outside(key[i], left, right)
			}, true
		}
		if values, ok = c.listed(value, true); !ok {
			return nil, false
		}
	default:
		return nil, false
	}
	c.list(2 * len(values))
	prepared := lo.Map(values, func(value string, i int) expected {
		return c.prepared(value, not || c.patternOfValue(lo.Ternary(whole < 0, whole, i)))
	})
	return func(i int) bool {
		one := c.prepared(key[i], not || c.patternOfKey(i))
		return lo.ContainsBy(prepared, func(value expected) bool { return c.meet(one, value) })
	}, true
}

// subset is the old operator In: all strings of the key are in the value, compared without wildcards. NotIn is its opposite.
func (c comparison) subset(operator string, key []any) bool {
	none := func(any) bool { return false }
	texts, ok := c.texts(key, none)
	if !ok {
		refuse("%s takes a list of texts, and found %s; use AnyIn, AllIn, AnyNotIn or AllNotIn", operator, c.shown(key))
	}
	var values []string
	switch value := c.value.(type) {
	case []any:
		values, ok = c.texts(value, none)
	case string:
		if len(texts) == 1 && c.same(texts[0], value) {
			return operator == "In"
		}
		values, ok = c.listed(value, false)
	default:
		ok = false
	}
	if !ok {
		return false
	}
	c.object(len(values))
	known := lo.Keyify(values)
	for _, text := range texts {
		c.step(1 + len(text)/16)
		if _, ok := known[text]; !ok {
			return operator == "NotIn"
		}
	}
	return operator == "In"
}

// rangeShape matches a range, such as 1-10 or 512Mi-2Gi.
var rangeShape = regexp.MustCompile(`^([-|+]?\d+(?:\.\d+)?[A-Za-z]*)-([-|+]?\d+(?:\.\d+)?[A-Za-z]*)$`)

// maxRange bounds the length of a range, bytes.
const maxRange = 200

// span parses a string as a range.
func (c comparison) span(text string) (left, right string, ok bool) {
	if len(text) > maxRange {
		return "", "", false
	}
	c.step(4 * len(text))
	match := rangeShape.FindStringSubmatch(text)
	switch {
	case match == nil:
		return "", "", false
	case strings.Contains(text, "|"):
		refuse("the range %s is not understood", text)
	}
	return match[1], match[2], true
}

func (c comparison) within(text, left, right string) bool {
	if c.same(text, left+"-"+right) {
		return true
	}
	return c.borders(text, ">=", left) && c.borders(text, "<=", right)
}

func (c comparison) outside(text, left, right string) bool {
	return c.borders(text, "<", left) || c.borders(text, ">", right)
}

// borders compares a string with a border of a range; both must be durations or both quantities.
func (c comparison) borders(text, operator, border string) bool {
	x, ok := c.duration(text)
	y, other := c.duration(border)
	if ok && other {
		return ordered(operator, cmp.Compare(x, y))
	}
	quantity, ok := c.quantity(text)
	limit, other := c.quantity(border)
	return ok && other && ordered(operator, quantity.Cmp(limit))
}
