package condition

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// regularExpressions adds the functions that apply one.
func (l functions) regularExpressions() {
	l["regex_match"] = regex("regex_match", func(r *regexp.Regexp, text, _ string) any { return r.MatchString(text) }, "string", "string|number")
	l["regex_replace_all"] = regex("regex_replace_all", func(r *regexp.Regexp, text, by string) any { return r.ReplaceAllString(text, by) }, "string", "string|number", "string|number")
	l["regex_replace_all_literal"] = regex("regex_replace_all_literal", func(r *regexp.Regexp, text, by string) any { return r.ReplaceAllLiteralString(text, by) }, "string", "string|number", "string|number")
}

func regex(name string, apply func(r *regexp.Regexp, text, by string) any, types ...string) function {
	return taking(func(e *evaluation, a []any, _ int) (any, error) { return e.regex(name, a, apply) }, types...)
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
