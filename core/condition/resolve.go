package condition

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Bounds on one key or value.
const (
	maxQueries    = 100
	maxExpression = 64 << 10  // bytes
	maxTemplate   = 128 << 10 // bytes, of a string with expressions
	maxInText     = 1 << 20   // bytes that expressions insert into a string
)

// The {{ expressions }} and $(references) in strings, unless a backslash precedes them.
var (
	expressionShape = regexp.MustCompile(`(^|[^\\])(\{\{(?:\{[^{}]*\}|[^{}])*\}\})`)
	referenceShape  = regexp.MustCompile(`(?:^|[^\\])(\$\(.[^ ]*\))`)
	escapedShape    = regexp.MustCompile(`\\(\$\(.[^ )]*\))`)
)

// resolve gives a key or value with its expressions replaced by their results.
func (e *evaluation) resolve(written any) any {
	switch w := written.(type) {
	case string:
		return e.template(w)
	case []any:
		e.list(len(w))
		resolved := make([]any, len(w))
		for i, element := range w {
			resolved[i] = e.resolve(element)
		}
		return resolved
	case map[string]any:
		e.object(len(w))
		resolved := make(map[string]any, len(w))
		for _, name := range e.names(w) {
			as, ok := e.template(name).(string)
			if !ok {
				refuse("the member name %s does not give a text", cut(name))
			}
			if _, ok := resolved[as]; ok {
				refuse("it has two members of the name %s", cut(as))
			}
			resolved[as] = e.resolve(w[name])
		}
		return resolved
	}
	return written
}

// template resolves the expressions in a string. An expression that is the whole string gives its value, another one is
// inserted as text. Until all are resolved, a mark stands in for each result, so that no result is taken for an expression;
// only an expression that encloses another one gets its result.
func (e *evaluation) template(text string) any {
	if !strings.Contains(text, "{{") && !strings.Contains(text, "$(") {
		return text
	}
	if len(text) > maxTemplate {
		refuse("a text with expressions is %d bytes; at most %d are read", len(text), maxTemplate)
	}
	e.step(10 * len(text))
	if match := referenceShape.FindStringSubmatch(text); match != nil {
		refuse("%s is a reference, which conditions on attestations do not have", cut(match[1]))
	}
	text = escapedShape.ReplaceAllString(text, "$1")
	var given []string
	for {
		e.step(10 * len(text))
		match := expressionShape.FindStringSubmatchIndex(text)
		if match == nil {
			break
		}
		if strings.Contains(text, mark) && len(given) == 0 {
			refuse("a text with expressions holds the character U+0000")
		}
		from, to := match[4], match[5]
		expression := strings.TrimSpace(strings.NewReplacer("{{", "", "}}", "").Replace(text[from:to]))
		expression, asText := strings.CutPrefix(expression, "-")
		value := e.query(strings.TrimSpace(e.unmarked(expression, given)))
		if from == 0 && to == len(text) {
			return value
		}
		e.grow(len(text))
		given = append(given, e.inText(expression, value, asText))
		text = text[:from] + mark + strconv.Itoa(len(given)-1) + mark + text[to:]
	}
	return e.unmarked(strings.ReplaceAll(text, `\{{`, "{{"), given)
}

// mark encloses the index of an expression's result.
const mark = "\x00"

// unmarked replaces the marks in a string by the results.
func (b *budget) unmarked(text string, given []string) string {
	if !strings.Contains(text, mark) {
		return text
	}
	var pairs []string
	n := len(text)
	for i, what := range given {
		pairs = append(pairs, mark+strconv.Itoa(i)+mark, what)
		n += len(what)
	}
	b.grow(2 * n)
	b.step(4 * n)
	return strings.NewReplacer(pairs...).Replace(text)
}

// inText is a value as text to insert into a string.
func (e *evaluation) inText(expression string, value any, asText bool) string {
	// Kyverno resolves the result of an expression inside a string once more. That would let the document, which the author of
	// the conditions does not control, inject expressions.
	if e.mentions(value, "{{") {
		refuse("the expression %q gives text with {{ in it; let the expression be the whole key or value", quoted(expression))
	}
	text, ok := value.(string)
	switch {
	case ok:
	case asText && value != nil:
		refuse("the expression %q gives %s, and {{- }} takes a text", quoted(expression), e.shown(value))
	default:
		var written strings.Builder
		e.writeJSON(&written, value)
		text = written.String()
	}
	if e.inTexts += len(text); e.inTexts > maxInText {
		refuse("the expression %q gives what is too large to stand inside a text; let it be the whole key or value", quoted(expression))
	}
	e.grow(2 * len(text))
	return text
}

// quoted is an expression as errors show it.
func quoted(expression string) string { return reason.Clip(expression, maxWords) }

// query evaluates a JMESPath expression.
func (e *evaluation) query(expression string) any {
	if e.queries++; e.queries > maxQueries {
		refuse("it holds more than %d expressions", maxQueries)
	}
	switch {
	case expression == "":
		refuse("the expression is empty")
	case expression == "@":
		refuse("the expression @ stands alone; write element for the whole payload")
	case len(expression) > maxExpression:
		refuse("the expression is %d bytes; at most %d are read", len(expression), maxExpression)
	}
	e.expression = expression
	node := e.parse(expression)
	value, err := e.walk(&node, e.data, 0)
	if missing, ok := err.(missing); ok {
		refuse(`the expression %q asks for "%s", which the payload does not have there`, quoted(expression), cut(missing.name))
	}
	if err != nil {
		refuse("the expression %q %v", quoted(expression), err)
	}
	return value
}
