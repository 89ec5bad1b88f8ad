package condition

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/samber/lo"
)

// replaced has the functions of Kyverno that are implemented here, since Kyverno's read the clock, use the network or are
// unbounded.
func replaced() map[string]func(e *evaluation, a []any, depth int) (any, error) {
	return map[string]func(e *evaluation, a []any, depth int) (any, error){
		"time_now":        func(e *evaluation, _ []any, _ int) (any, error) { return e.clock().Format(time.RFC3339), nil },
		"time_now_utc":    func(e *evaluation, _ []any, _ int) (any, error) { return e.clock().UTC().Format(time.RFC3339), nil },
		"time_since":      timeSince,
		"parse_json":      parseJSON,
		"pattern_match":   patternMatch,
		"label_match":     labelMatch,
		"image_normalize": imageNormalize,
		"is_external_url": unavailable("is_external_url asks the network and is not available here"),
		"regex_match": func(e *evaluation, a []any, _ int) (any, error) {
			return e.regex("regex_match", a, func(r *regexp.Regexp, text, _ string) any { return r.MatchString(text) })
		},
		"regex_replace_all": func(e *evaluation, a []any, _ int) (any, error) {
			return e.regex("regex_replace_all", a, func(r *regexp.Regexp, text, by string) any { return r.ReplaceAllString(text, by) })
		},
		"regex_replace_all_literal": func(e *evaluation, a []any, _ int) (any, error) {
			return e.regex("regex_replace_all_literal", a, func(r *regexp.Regexp, text, by string) any { return r.ReplaceAllLiteralString(text, by) })
		},
		"random": unavailable("random gives another text each time and is not available here"),
	}
}

func unavailable(sentence string) func(*evaluation, []any, int) (any, error) {
	return func(e *evaluation, _ []any, _ int) (any, error) {
		refuse("the expression %q fails: %s", quoted(e.expression), sentence)
		return nil, nil
	}
}

// clock gives the time, and marks the result as time dependent.
func (e *evaluation) clock() time.Time {
	e.timeDependent = true
	e.grow(2 * maxShown)
	return e.now
}

// timeSince gives the duration from a start to an end, or to now where the end is empty.
func timeSince(e *evaluation, a []any, _ int) (any, error) {
	steps, bytes := short(maxNumber, 4, 4)(e, a)
	e.pay("time_since", steps, bytes)
	layout := lo.CoalesceOrEmpty(textOf(a, 0), time.RFC3339)
	start, err := time.Parse(layout, textOf(a, 1))
	if err != nil {
		return nil, fmt.Errorf("fails: %s", cut(err.Error()))
	}
	if textOf(a, 2) == "" {
		return e.clock().Sub(start).String(), nil
	}
	end, err := time.Parse(layout, textOf(a, 2))
	if err != nil {
		return nil, fmt.Errorf("fails: %s", cut(err.Error()))
	}
	return end.Sub(start).String(), nil
}

func parseJSON(e *evaluation, a []any, _ int) (any, error) {
	text := textOf(a, 0)
	e.grow(len(text))
	value, err := decode([]byte(text), e.budget)
	var syntax errSyntax
	switch {
	case errors.As(err, &syntax):
		return nil, fmt.Errorf("fails: %s", cut(err.Error()))
	case err != nil:
		refuse("the expression %q reads JSON that is refused: %s", quoted(e.expression), cut(err.Error()))
	}
	return value, nil
}

// number formats a number as Kyverno's string functions do.
func number(value any) string {
	if n, ok := value.(float64); ok {
		return strconv.FormatFloat(n, 'f', -1, 32)
	}
	text, _ := value.(string)
	return text
}

func patternMatch(e *evaluation, a []any, _ int) (any, error) {
	return e.match(textOf(a, 0), number(a[1])), nil
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

// Bounds on regular expressions.
const (
	maxRegex        = 4096  // bytes
	maxInstructions = 10000 // of its program
)

// program is a compiled regular expression.
type program struct {
	pattern string
	*regexp.Regexp
	size int // bound on its instructions
}

// compile compiles a regular expression, unless it is the same as in the last call.
func (e *evaluation) compile(pattern string) error {
	if e.program.Regexp != nil && e.program.pattern == pattern {
		return nil
	}
	if len(pattern) > maxRegex {
		refuse("the expression %q has a regular expression of %d bytes; at most %d are read", quoted(e.expression), len(pattern), maxRegex)
	}
	e.step(100 * len(pattern))
	e.grow(200 * len(pattern))
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return err
	}
	size := instructions(parsed)
	if size > maxInstructions {
		refuse("the expression %q has a regular expression that repeats too much", quoted(e.expression))
	}
	e.step(50 * size)
	e.grow(400 * size)
	compiled, err := regexp.Compile(pattern)
	e.program = program{pattern, compiled, size}
	return err
}

// regex applies a regular expression to a string. The cost is the product of the lengths of string and program, plus the length
// of the result.
func (e *evaluation) regex(name string, a []any, apply func(r *regexp.Regexp, text, by string) any) (any, error) {
	if err := e.compile(textOf(a, 0)); err != nil {
		return nil, fmt.Errorf("fails: %s", cut(err.Error()))
	}
	text, by, made := number(a[1]), "", 0
	if len(a) > 2 {
		by = number(a[2])
		made = (len(text)+1)*len(by) + strings.Count(by, "$")*len(text)
	}
	e.pay(name, (len(text)+1)*(8+2*e.program.size)+made/8, len(text)+2*made)
	return apply(e.program.Regexp, text, by), nil
}

// instructions gives a bound on the program of a regular expression.
func instructions(r *syntax.Regexp) int {
	n := 2 + len(r.Rune)/8
	for _, sub := range r.Sub {
		n += instructions(sub)
	}
	if r.Op == syntax.OpLiteral {
		n = 2 + len(r.Rune)
	}
	if r.Op == syntax.OpRepeat {
		n *= 1 + max(r.Min, r.Max)
	}
	return min(n, maxInstructions+1)
}

// anchorShape matches what may be an anchor or an alias.
var anchorShape = regexp.MustCompile(`(^|[\s\[\]{},:-])[&*][^\s]`)

// maxYAML bounds a YAML document, bytes.
const maxYAML = 64 << 10

func yamlCost(e *evaluation, a []any) (steps, bytes int) {
	text := textOf(a, 0)
	steps, bytes = short(maxYAML, 80, 100)(e, a)
	if anchorShape.MatchString(text) {
		refuse("the expression %q reads YAML with anchors or aliases (& and *), which are not followed", quoted(e.expression))
	}
	return steps, bytes
}
