package core

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	kyverno "github.com/kyverno/kyverno/api/kyverno/v1"
	"github.com/kyverno/kyverno/pkg/config"
	"github.com/kyverno/kyverno/pkg/engine/context"
	"github.com/kyverno/kyverno/pkg/engine/jmespath"
	"github.com/kyverno/kyverno/pkg/engine/variables"
	"sigs.k8s.io/yaml"
)

// The differential test's size, and how often each operator must give each answer for it to mean anything.
const (
	differentialCases = 5000
	leastOfEach       = 20
)

// outcome is what an evaluation came to.
type outcome string

const (
	met    outcome = "met"
	notMet outcome = "unmet"
	failed outcome = "error"
)

// TestConditionsAgreeWithKyverno holds generated conditions against generated documents, here and in Kyverno.
func TestConditionsAgreeWithKyverno(t *testing.T) {
	functions := jmespath.New(config.NewDefaultConfiguration(false))
	g := &generator{rand.New(rand.NewPCG(4, 19))}
	seen := map[string]map[outcome]int{}
	for i := range differentialCases {
		document, conditions, name := g.document(), Conditions{}, "any and all"
		if i%4 == 0 {
			conditions = g.anyAll()
		} else {
			condition := g.condition()
			conditions.All = []Condition{condition}
			name = strings.ToLower(condition.Operator)
		}
		ours, theirs := evaluateHere(t, conditions, document), evaluateInKyverno(t, functions, conditions, document)
		if ours.outcome != theirs.outcome {
			t.Errorf("case %d: %s (%s), and Kyverno says %s (%s)\nconditions %s\ndocument %s", i, ours.outcome, ours.why, theirs.outcome, theirs.why, encoded(conditions), document)
		}
		if seen[name] == nil {
			seen[name] = map[outcome]int{}
		}
		seen[name][ours.outcome]++
	}
	distributed(t, seen)
}

// distributed demands that the cases were no formality.
func distributed(t *testing.T, seen map[string]map[outcome]int) {
	t.Helper()
	total := map[outcome]int{}
	for _, name := range append([]string{"any and all"}, lowered(Operators())...) {
		t.Logf("%-28s %v", name, seen[name])
		for _, o := range []outcome{met, notMet} {
			if seen[name][o] < leastOfEach {
				t.Errorf("operator %s was %s %d times; want at least %d", name, o, seen[name][o], leastOfEach)
			}
		}
		for o, n := range seen[name] {
			total[o] += n
		}
	}
	t.Logf("together %v", total)
	if total[failed] < 10*leastOfEach {
		t.Errorf("%d cases were errors; want at least %d", total[failed], 10*leastOfEach)
	}
}

func lowered(names []string) []string {
	names = slices.Clone(names)
	for i := range names {
		names[i] = strings.ToLower(names[i])
	}
	return names
}

// judgement is an outcome with what was said about it.
type judgement struct {
	outcome outcome
	why     string
}

func evaluateHere(t *testing.T, conditions Conditions, document []byte) judgement {
	t.Helper()
	finding := evaluate(conditions, document, &clock{now: time.Now()})
	switch {
	case finding == nil:
		return judgement{met, ""}
	case finding.Code == ConditionUnmet:
		return judgement{notMet, finding.Reason}
	case finding.Code == ConditionInvalid:
		return judgement{failed, finding.Reason}
	}
	t.Fatalf("finding %v", finding)
	return judgement{}
}

// evaluateInKyverno evaluates as Kyverno does it for a rule: the policy's JSON, variables in a context.
func evaluateInKyverno(t *testing.T, functions jmespath.Interface, conditions Conditions, document []byte) (j judgement) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil {
			j = judgement{failed, fmt.Sprint(r)}
		}
	}()
	var theirs kyverno.AnyAllConditions
	if err := json.Unmarshal([]byte(encoded(conditions)), &theirs); err != nil {
		t.Fatal(err)
	}
	ok, _, err := variables.EvaluateConditions(logr.Discard(), contextOf(t, functions, document), theirs)
	switch {
	case err != nil:
		return judgement{failed, err.Error()}
	case ok:
		return judgement{met, ""}
	}
	return judgement{notMet, ""}
}

func contextOf(t *testing.T, functions jmespath.Interface, document []byte) context.Interface {
	t.Helper()
	ctx := context.NewContext(functions)
	var content any
	if err := json.Unmarshal(document, &content); err != nil {
		t.Fatal(err)
	}
	members, _ := content.(map[string]any)
	for name, value := range members {
		if err := ctx.AddVariable(name, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := ctx.AddVariable("element", content); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// generator makes documents, and conditions that have something to do with them.
type generator struct{ *rand.Rand }

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

// often tells whether something of the given percentage happens.
func (g *generator) often(percent int) bool { return g.IntN(100) < percent }

// Values of each kind, small in number so that documents and conditions meet.
func (g *generator) word() any {
	return pick[any](g, "MIT", "Apache-2.0", "GPL-3.0-only", "GPL*", "*", "?IT", "", "a b", "mit", "1.2.3", "10", "1234567", "true", "null", `say "hi"`, "ünïcode", "line\nbreak")
}
func (g *generator) number() any {
	return pick[any](g, 0, 1, 2, 5, 10, 11, -3, 2.5, 1e21, 1234567, 9007199254740993)
}
func (g *generator) duration() any {
	return pick[any](g, "0s", "30s", "60s", "1m", "1h", "1h0m0s", "90m", "24h", "-1h", "3600", 3600, 60, 1)
}
func (g *generator) quantity() any {
	return pick[any](g, "1Gi", "1024Mi", "512Mi", "1G", "100m", "0.1", "2Ki", "1073741824", 1073741824, "10")
}
func (g *generator) version() any {
	return pick[any](g, "1.2.3", "1.2.4", "2.0.0", "0.9.0", "v1.2.3", "1.2.3-rc.1")
}
func (g *generator) instant() any {
	return pick[any](g, "2024-01-02T03:04:05Z", "2031-01-02T03:04:05Z", "2024-01-02T04:04:05+01:00", "2024-01-02")
}
func (g *generator) span() any {
	return pick[any](g, "1-10", "!1-10", "0.5-2.5", "10-20", "1h-2h", "512Mi-2Gi", "1.0.0-2.0.0", ">=3", "<10", ">=1 & <=10", "<1 | >5", "!5", ">1Gi", "<2h", "10-1")
}

func (g *generator) list(of func() any) []any {
	list := make([]any, g.IntN(7))
	for i := range list {
		list[i] = of()
	}
	return list
}

// scalar is of any kind.
func (g *generator) scalar() any {
	return pick(g, g.word, g.number, g.duration, g.quantity, g.version, g.instant, func() any { return g.often(50) }, func() any { return nil })()
}

func (g *generator) document() []byte {
	if g.often(4) {
		return []byte(encoded(pick[any](g, g.list(g.scalar), g.scalar(), map[string]any{})))
	}
	object := map[string]any{
		"word": g.word(), "number": g.number(), "flag": g.often(50), "nothing": nil, "age": g.duration(), "memory": g.quantity(),
		"version": g.version(), "at": g.instant(), "words": g.list(g.word), "numbers": g.list(g.number), "mixed": g.list(g.scalar),
		"flags": g.list(func() any { return g.often(50) }), "map": map[string]any{"word": g.word(), "MIT": g.number()},
		"key": pick[any](g, "word", "number", "absent", "words[0]"), "components": g.components(), "encoded": encoded(g.list(g.word)),
		"predicate": map[string]any{"builder": map[string]any{"id": "https://example.com/" + fmt.Sprint(g.word())}, "number": g.number()},
	}
	if g.often(15) {
		names := slices.Sorted(maps.Keys(object))
		delete(object, pick(g, names...))
	}
	return []byte(encoded(object))
}

// components are those of an SBOM, with the holes that real ones have.
func (g *generator) components() any {
	components := []any{}
	for range g.IntN(4) {
		component := map[string]any{"name": g.word(), "version": g.version()}
		if g.often(70) {
			component["licenses"] = g.list(func() any {
				if g.often(50) {
					return map[string]any{"expression": g.word()}
				}
				return map[string]any{"license": map[string]any{"id": g.word()}}
			})
		}
		components = append(components, component)
	}
	return components
}

func (g *generator) anyAll() Conditions {
	var c Conditions
	for range g.IntN(4) {
		c.Any = append(c.Any, g.condition())
	}
	for range g.IntN(3) {
		c.All = append(c.All, g.condition())
	}
	return c
}

func (g *generator) condition() Condition {
	operator := pick(g, Operators()...)
	key, value := g.pair(operator)
	if g.often(8) {
		value = g.value()
	}
	switch g.IntN(10) {
	case 0:
		operator = strings.ToLower(operator)
	case 1:
		operator = strings.ToUpper(operator)
	}
	return Condition{Key: []byte(encoded(key)), Operator: operator, Value: []byte(encoded(value))}
}

// pair gives a key and a value of kinds that often, but not always, suit the operator.
func (g *generator) pair(operator string) (key, value any) {
	switch {
	case g.often(10):
		return g.oddKey(), g.value()
	case strings.HasPrefix(operator, "Duration"):
		return g.wrap(pick(g, "age", "age", "time_since('', at, '')", "time_since('', at, '2024-01-02T05:00:00Z')", "time_diff(at, '2024-01-02T05:00:00Z')")), pick(g, g.duration, g.duration, g.duration, g.span)()
	case strings.Contains(operator, "Than"):
		return g.comparable()
	case strings.Contains(operator, "In"):
		return g.member()
	}
	return g.equal()
}

// wrap writes an expression in one of the ways in which policies do.
func (g *generator) wrap(expression string) string {
	if plain(expression) && g.often(40) {
		expression = "element." + expression
	}
	return pick(g, "{{ "+expression+" }}", "{{"+expression+"}}")
}

// plain tells that an expression is a path from the root.
func plain(expression string) bool {
	first, _, _ := strings.Cut(expression, ".")
	return !strings.ContainsAny(first, "(`'{@&!|-") && !strings.Contains(expression, "||")
}

func (g *generator) comparable() (key, value any) {
	switch g.IntN(6) {
	case 0, 3, 4:
		return g.wrap(pick(g, "number", "predicate.number", "numbers[0]", "length(words)", "sum(numbers)", "max(numbers)", "add(number, `1`)",
			"subtract(number, `2`)", "multiply(number, `2`)", "divide(number, `2`)", "modulo(number, `3`)", "round(number, `1`)", "length(components[?version])",
			"to_number(word)", "map.MIT", "abs(number)", "ceil(number)", "avg(numbers)")), pick(g, g.number, g.number, func() any { return fmt.Sprint(g.number()) }, g.span)()
	case 1:
		return g.wrap(pick(g, "memory", "add(memory, '1Mi')", "components[0].name")), pick(g, g.quantity, g.quantity, g.number)()
	case 2:
		return g.wrap(pick(g, "version", "components[0].version")), g.version()
	}
	return g.wrap(pick(g, "age", "at", "time_since('', at, '')", "time_to_cron(at)", "word")), pick(g, g.duration, g.instant, g.number)()
}

func (g *generator) member() (key, value any) {
	key = g.wrap(pick(g, "words", "words[]", "word", "numbers", "number", "mixed", "flags", "components[].name", "components[*].name", "components[].licenses[].expression",
		"components[].licenses[].license.id", "components[].licenses[].license.id[]", "components[*].licenses[*].expression", "components[?version=='1.2.3'].name", "keys(map)",
		"values(map)", "split(word, '-')", "map(&to_upper(@), words)", "sort(words)", "parse_json(encoded)", "memory", "age", "[word, number]", "{a: word}", "items(map, 'k', 'v')[].k",
		"components[].licenses[].[expression, license.id][]", "components[].[licenses[].expression || `[]`][][]", "words[?starts_with(@, 'GPL')]", "lookup(map, word)", "to_array(word)",
		"not_null(components[].licenses[].expression, `[]`)", "(components || `[]`)[].name"))
	value = pick[func() any](g, func() any { return g.list(g.word) }, func() any { return g.list(g.word) }, func() any { return g.list(g.scalar) }, func() any { return g.list(g.number) },
		g.word, g.number, g.span, func() any { return encoded(g.list(g.word)) }, func() any { return g.wrap("words") }, func() any { return g.list(g.span) })()
	return key, value
}

func (g *generator) equal() (key, value any) {
	kinds := []struct {
		expressions []string
		value       func() any
	}{
		{[]string{"word", "words[0]", "map.word", "map.\"word\"", "element.word", "to_upper(word)", "to_lower(word)", "trim(word, 'M')", "truncate(word, `3`)", "replace_all(word, 'GPL', 'MIT')",
			"base64_decode(base64_encode(word))", "regex_replace_all('[0-9]', word, 'x')", "trim_prefix(word, 'GPL')", "word || 'MIT'", "absent || word", "join('-', words[])"}, g.word},
		{[]string{"number", "numbers[0]", "predicate.number", "length(words)", "sum(numbers)", "compare(word, 'MIT')", "parse_yaml('a: 10').a"}, g.number},
		{[]string{"flag", "flags[0]", "number > `2`", "contains(words, 'MIT')", "equal_fold(word, 'mit')", "regex_match('^GPL', word)", "pattern_match('GPL*', word)", "semver_compare(version, '>=1.2.3')",
			"time_after(at, '2025-01-01T00:00:00Z')", "time_before(time_now_utc(), at)", "time_between(time_now(), '2024-01-01T00:00:00Z', '2030-01-01T00:00:00Z')", "!flag", "flag && nothing",
			"to_boolean(word)", "length(components[?!licenses]) == `0`", "label_match(`{\"word\":\"MIT\"}`, map)", "contains(words, word)"}, func() any { return g.often(50) }},
		{[]string{"memory", "age", "version", "at", "time_utc(at)", "time_add(at, '1h')", "time_truncate(at, '1h')", "time_parse('2006-01-02', at)", "semver_compare(version, '<2')", "image_normalize(word)"}, g.scalar},
		{[]string{"map", "words", "numbers", "mixed", "components", "components[0]", "nothing", "nothing.x", "components[9]", "object_from_lists(words, numbers)", "element", "@.word", "path_canonicalize(word)"}, g.value},
		{[]string{"predicate.builder.id"}, func() any {
			return pick[any](g, "https://example.com/*", "https://example.com/MIT", "*MIT", "https://*.com/GPL*")
		}},
		{[]string{"number", "memory", "age", "numbers"}, g.span},
	}
	kind := kinds[g.IntN(len(kinds))]
	key = g.wrap(pick(g, kind.expressions...))
	if g.often(20) {
		return key, g.wrap(pick(g, kind.expressions...))
	}
	return key, kind.value()
}

// oddKey is a key that is no plain expression, or one that fails.
func (g *generator) oddKey() any {
	return pick[any](g, "{{ absent }}", "{{ map.absent }}", "{{ element.absent.deep }}", "{{ absent || '' }}", "{{ (map.absent || `[]`) }}", "{{ bad( }}", "{{ }}", "{{ unknown_function(word) }}",
		"{{ length(number) }}", "{{ to_upper(nothing) }}", "{{ word }}-{{ version }}", "x {{ number }} y", "{{ {{ key }} }}", "{{ element.{{ key }} }}", "v{{ version }}", "{{ words }}!", "{{ nothing }}.",
		"MIT", "", " ", 5, true, "{{- word }}", "a{{- word }}", "{{- number }}!", `\{{ word }}`, "{ {word} }", "{{ word", "$(./word)", "{{ @ }}", "{{ word | to_upper(@) }}", "{{ 'lit' }}", "{{ `5` }}", "{{`[\"MIT\"]`}}",
		"{{ words[?@ == 'MIT'] | [0] }}", "{{ request.operation }}", "{{ random('[a-z]{3}') }}", "{{ sha256(word) }}", "{{ divide(number, `0`) }}", "{{ element }}", "{{ elementIndex }}",
		[]any{"{{ word }}", "{{ version }}"}, map[string]any{"{{ word }}": "{{ number }}"}, []any{"a{{ word }}", "{{ word }}"}, g.scalar(), g.list(g.scalar))
}

// value is any value, expressions among them.
func (g *generator) value() any {
	return pick(g, g.scalar, g.scalar, g.span, func() any { return g.list(g.scalar) }, func() any { return map[string]any{"word": g.word(), "MIT": g.number()} },
		func() any { return g.wrap(pick(g, "word", "number", "words", "map", "absent", "age")) }, func() any { return g.oddKey() })()
}

// sbom has what the sentences below speak of.
const sbom = `{
	"name": "app", "braces": "{{ name }}", "nothing": null, "count": 3, "map": {"name": 1}, "texts": ["{{ name }}", "${{ secrets.TOKEN }}"],
	"components": [
		{"name": "a", "licenses": [{"license": {"id": "MIT"}}]},
		{"name": "b", "licenses": [{"expression": "GPL-3.0-only"}]},
		{"name": "c"}
	]
}`

// TestConditionsSayWhatTheyFound checks the sentences that the one who was denied reads.
func TestConditionsSayWhatTheyFound(t *testing.T) {
	tests := map[string]struct {
		conditions string
		code       Code // "" where they are met
		says       []string
	}{
		"a condition that is met says nothing": {`{"all": [{"key": "{{ name }}", "operator": "Equals", "value": "app"}]}`, "", nil},
		"an unmet one shows key, found, operator, wanted and message": {
			`{"all": [{"key": "{{ element.components[].licenses[].expression }}", "operator": "AllNotIn", "value": ["GPL*"], "message": "no GPL"}]}`, ConditionUnmet,
			[]string{`the condition on {{ element.components[].licenses[].expression }} is not met: found ["GPL-3.0-only"], wanted AllNotIn ["GPL*"]: no GPL`}},
		"every one of all that fails is shown": {
			`{"all": [{"key": "{{ name }}", "operator": "Equals", "value": "x"}, {"key": "{{ count }}", "operator": "Equals", "value": 3}, {"key": "{{ count }}", "operator": "GreaterThan", "value": 3}]}`, ConditionUnmet,
			[]string{`the condition on {{ name }} is not met: found "app", wanted Equals "x"; the condition on {{ count }} is not met: found 3, wanted GreaterThan 3`}},
		"every one of any is shown": {
			`{"any": [{"key": "{{ name }}", "operator": "Equals", "value": "1"}, {"key": "{{ name }}", "operator": "Equals", "value": "2"}, {"key": "{{ name }}", "operator": "Equals", "value": "3"}, {"key": "{{ name }}", "operator": "Equals", "value": "4"}]}`, ConditionUnmet,
			[]string{"none of the 4 conditions under any is met: ", `wanted Equals "1"; `, `wanted Equals "2"; `, `wanted Equals "3"; `, `wanted Equals "4"`}},
		"a single one under any reads like one under all": {
			`{"any": [{"key": "{{ name }}", "operator": "Equals", "value": "1"}]}`, ConditionUnmet,
			[]string{`the condition on {{ name }} is not met: found "app", wanted Equals "1"`}},
		"failures of any and of all are both shown": {
			`{"any": [{"key": "{{ name }}", "operator": "Equals", "value": "1"}], "all": [{"key": "{{ count }}", "operator": "Equals", "value": 4}]}`, ConditionUnmet,
			[]string{`found "app", wanted Equals "1"; and the condition on {{ count }} is not met: found 3, wanted Equals 4`}},
		"an error under all counts although any is unmet": {
			`{"any": [{"key": "{{ name }}", "operator": "Equals", "value": "1"}], "all": [{"key": "{{ absent }}", "operator": "Equals", "value": 4}]}`, ConditionInvalid,
			[]string{`wanted Equals "1"`, `asks for "absent"`}},
		"a path that is not there is named": {
			`{"all": [{"key": "{{ map.absent.deep }}", "operator": "Equals", "value": 1}]}`, ConditionInvalid,
			[]string{`the condition on {{ map.absent.deep }} cannot be evaluated: the expression "map.absent.deep" asks for "absent", which the payload does not have there`}},
		"a path that is not there in a value is named": {
			`{"all": [{"key": "{{ name }}", "operator": "Equals", "value": "{{ absent }}"}]}`, ConditionInvalid,
			[]string{`the condition on {{ name }} cannot be evaluated, because of its value {{ absent }}: the expression "absent" asks for "absent"`}},
		"an expression that does not compile is named": {
			`{"all": [{"key": "{{ components[ }}", "operator": "Equals", "value": 1}]}`, ConditionInvalid, []string{`the expression "components[" does not compile: `}},
		"a function that does not exist is named": {
			`{"all": [{"key": "{{ licence(name) }}", "operator": "Equals", "value": 1}]}`, ConditionInvalid, []string{`the expression "licence(name)" fails: unknown function: licence`}},
		"an argument of a wrong type is spoken of in JSON's words": {
			`{"all": [{"key": "{{ length(nothing) }}", "operator": "Equals", "value": 1}]}`, ConditionInvalid, []string{`the expression "length(nothing)" gives a function null, which takes "string", "array", "object"`}},
		"is_external_url is not available": {
			`{"all": [{"key": "{{ is_external_url('https://example.com') }}", "operator": "Equals", "value": true}]}`, ConditionInvalid, []string{"is_external_url asks the network"}},
		"text of the payload is shown but not evaluated": {
			`{"all": [{"key": "{{ braces }}", "operator": "Equals", "value": "app"}]}`, ConditionUnmet, []string{`found "{{ name }}"`}},
		"text in a list of the payload is not evaluated either": {
			`{"all": [{"key": "{{ texts }}", "operator": "AnyIn", "value": ["app"]}]}`, ConditionUnmet, []string{`found ["{{ name }}","${{ secrets.TOKEN }}"]`}},
		"text in an object of the payload is not evaluated either": {
			`{"all": [{"key": "{{ element }}", "operator": "Equals", "value": "x"}]}`, ConditionUnmet, []string{`"braces":"{{ name }}"`}},
		"a list inside a text is its JSON": {
			`{"all": [{"key": "x{{ components[].licenses[].expression }}", "operator": "Equals", "value": "x[\"GPL-3.0-only\"]"}]}`, "", nil},
		"expressions within a list keep their types": {
			`{"all": [{"key": ["{{ name }}", "{{ texts }}"], "operator": "Equals", "value": ["app", "{{ texts }}"]}]}`, "", nil},
		"text of the payload does not become an expression inside another text": {
			`{"all": [{"key": "x{{ braces }}", "operator": "Equals", "value": "xapp"}]}`, ConditionInvalid, []string{`the expression "braces" gives text with {{ in it`}},
		"a function that panics is an error": {
			`{"all": [{"key": "x{{- count }}", "operator": "Equals", "value": "x"}]}`, ConditionInvalid, []string{"cannot be evaluated: "}},
		"an expression that is very long is not read": {
			`{"all": [{"key": "{{ ` + strings.Repeat("(", maxExpression+1) + ` }}", "operator": "Equals", "value": 1}]}`, ConditionInvalid, []string{"at most 65536 are read"}},
		"an expression of the greatest depth is survived": {
			`{"all": [{"key": "{{ ` + strings.Repeat("(", maxExpression-1) + ` }}", "operator": "Equals", "value": 1}]}`, ConditionInvalid, []string{"does not compile"}},
		"what an expression doubles again and again is not made": {
			`{"all": [{"key": "{{ [element,element]` + strings.Repeat("|[@,@]", 40) + ` }}", "operator": "Equals", "value": 1}]}`, ConditionInvalid, []string{"names the payload too often"}},
		"nor within a text": {
			`{"all": [{"key": "x{{ [element,element]` + strings.Repeat("|[@,@]", 40) + ` }}", "operator": "Equals", "value": 1}]}`, ConditionInvalid, []string{"names the payload too often"}},
		"nor as a list that grows": {
			`{"all": [{"key": "{{ texts` + strings.Repeat("|[@,@][]", 40) + ` }}", "operator": "Equals", "value": 1}]}`, ConditionInvalid, []string{"names the payload too often"}},
		"nor as a text": {
			`{"all": [{"key": "{{ name` + strings.Repeat("|join('',[@,@])", 40) + ` }}", "operator": "Equals", "value": 1}]}`, ConditionInvalid, []string{"names the payload too often"}},
		"nor as an argument": {
			`{"all": [{"key": "{{ length(to_string(element` + strings.Repeat("|{a:@,b:@}", 40) + `)) }}", "operator": "Equals", "value": 1}]}`, ConditionInvalid, []string{"names the payload too often"}},
		"nor by a comparison": {
			`{"all": [{"key": "{{ (element` + strings.Repeat("|[@,@]", 40) + `) == name }}", "operator": "Equals", "value": 1}]}`, ConditionInvalid, []string{"names the payload too often"}},
		"a text that replaces its own parts does not grow without end": {
			`{"all": [{"key": "{{ name` + strings.Repeat("|replace_all(@,'p',@)", 40) + ` }}", "operator": "Equals", "value": 1}]}`, ConditionInvalid, []string{"arguments are too large"}},
		"a value that is doubled a few times is shown in part": {
			`{"all": [{"key": "{{ texts` + strings.Repeat("|[@,@]", 18) + ` }}", "operator": "Equals", "value": 1}]}`, ConditionUnmet, []string{`found [[[[[[[[[[[[[[[[[[["{{ name }}",`}},
		"a long value is not put into a text": {
			`{"all": [{"key": "x{{ texts[1]` + strings.Repeat("|[@,@]", 18) + ` }}", "operator": "Equals", "value": 1}]}`, ConditionInvalid, []string{"too large to stand inside a text"}},
		"many large values do not add up": {
			`{"all": [{"key": [` + strings.Repeat(`"{{ name`+strings.Repeat("|[@,@]", 18)+` }}",`, 65) + `1], "operator": "Equals", "value": 1}]}`, ConditionInvalid, []string{"gives too much"}},
		"an author's long texts are cut": {
			`{"all": [{"key": "{{ name }}", "operator": "Equals", "value": "x", "message": "` + strings.Repeat("no ", 50000) + `"}]}`, ConditionUnmet, []string{"..."}},
		"a key of very many expressions is not resolved": {
			`{"all": [{"key": "` + strings.Repeat("{{name}} ", maxQueries+1) + `", "operator": "Equals", "value": 1}]}`, ConditionInvalid, []string{"more than 100 expressions"}},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			var conditions Conditions
			if err := json.Unmarshal([]byte(test.conditions), &conditions); err != nil {
				t.Fatal(err)
			}
			finding := evaluate(conditions, []byte(sbom), &clock{now: time.Now()})
			expect(t, finding, test.code, test.says...)
			if finding != nil && len(finding.Reason) > 11_000 {
				t.Errorf("the reason has %d bytes", len(finding.Reason))
			}
		})
	}
}

// TestWhatTheReadmeWarnsOf pins behaviour of Kyverno's operators that surprises.
func TestWhatTheReadmeWarnsOf(t *testing.T) {
	tests := map[string]struct {
		document, key, operator, value string
		code                           Code // "" where it is met
	}{
		"a pattern matches no list in a list":       {sbom, "{{ components[*].licenses[*].expression }}", "AllNotIn", `["GPL-*"]`, ""},
		"it does once the lists are flattened":      {sbom, "{{ components[].licenses[].expression }}", "AllNotIn", `["GPL-*"]`, ConditionUnmet},
		"a pattern in the payload matches in AnyIn": {`{"id": "*"}`, "{{ id }}", "AnyIn", `["https://example.com/builder"]`, ""},
		"it does not in Equals":                     {`{"id": "*"}`, "{{ id }}", "Equals", `"https://example.com/builder"`, ConditionUnmet},
		"null is not in a list":                     {sbom, "{{ components[9] }}", "AnyIn", `["x"]`, ConditionUnmet},
		"and null is not in none":                   {sbom, "{{ components[9] }}", "AllNotIn", `["x"]`, ConditionUnmet},
		"large numbers are not found in lists":      {`{"n": 1234567}`, "{{ n }}", "AnyIn", `[1234567]`, ConditionUnmet},
		"large numbers are equal":                   {`{"n": 1234567}`, "{{ n }}", "Equals", `1234567`, ""},
		"a DSSE envelope can be opened":             {`{"payload": "eyJwcmVkaWNhdGUiOnsieCI6Im9rIn19"}`, "{{ parse_json(base64_decode(payload)).predicate.x }}", "Equals", `"ok"`, ""},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			condition := Condition{Key: []byte(encoded(test.key)), Operator: test.operator, Value: []byte(test.value)}
			expect(t, evaluate(Conditions{All: []Condition{condition}}, []byte(test.document), &clock{now: time.Now()}), test.code)
		})
	}
}

// expect holds a finding against a code and parts of its text.
func expect(t *testing.T, finding *Finding, code Code, says ...string) {
	t.Helper()
	if finding == nil {
		finding = &Finding{}
	}
	if finding.Code != code {
		t.Errorf("code %q; want %q: %s", finding.Code, code, cut(finding.Reason))
	}
	for _, part := range says {
		if !strings.Contains(finding.Reason, part) {
			t.Errorf("text %s\nwant in it %s", finding.Reason, part)
		}
	}
}

func TestALongListShowsWhatFails(t *testing.T) {
	licences := make([]any, 1000)
	for i := range licences {
		licences[i] = fmt.Sprintf("Licence-%04d", i)
	}
	licences[777], licences[888] = "GPL-3.0-only", "GPL-3.0-only"
	tests := map[string]struct{ operator, value, want string }{
		"a list that must hold none":       {"AllNotIn", `["GPL*"]`, `found ["GPL-3.0-only"] among 1000 values, wanted AllNotIn ["GPL*"]`},
		"a list of which all must be good": {"allin", `["Licence-*"]`, `found ["GPL-3.0-only"] among 1000 values, wanted allin ["Licence-*"]`},
		"a list compared as a whole":       {"Equals", `["GPL*"]`, `found ["Licence-0000","Licence-0001",`},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			condition := Condition{Key: []byte(`"{{ element }}"`), Operator: test.operator, Value: []byte(test.value)}
			expect(t, evaluate(Conditions{All: []Condition{condition}}, []byte(encoded(licences)), &clock{now: time.Now()}), ConditionUnmet, test.want)
		})
	}
}

func TestValuesFoundAreCut(t *testing.T) {
	document := []byte(encoded(map[string]any{"text": strings.Repeat("ü", 1<<20)}))
	finding := evaluate(Conditions{All: []Condition{{Key: []byte(`"{{ text }}"`), Operator: "Equals", Value: []byte(`"x"`)}}}, document, &clock{now: time.Now()})
	expect(t, finding, ConditionUnmet, `found "`+strings.Repeat("ü", maxShown-1)+`..., wanted`)
}

// TestExpressionsReadTheRequestsClock evaluates at a moment long ago.
func TestExpressionsReadTheRequestsClock(t *testing.T) {
	now := time.Date(2001, 2, 3, 4, 5, 6, 0, time.FixedZone("", 3600))
	for expression, want := range map[string]string{
		"time_now()":                                 "2001-02-03T04:05:06+01:00",
		"time_now_utc()":                             "2001-02-03T03:05:06Z",
		"time_since('', at, '')":                     "3h5m6s",
		"time_since('2006-01-02', day, '')":          "27h5m6s",
		"time_since('', at, '2001-02-03T00:00:01Z')": "1s",
	} {
		t.Run(expression, func(t *testing.T) {
			condition := Condition{Key: []byte(encoded("{{ " + expression + " }}")), Operator: "Equals", Value: []byte(encoded(want))}
			expect(t, evaluate(Conditions{All: []Condition{condition}}, []byte(`{"at": "2001-02-03T00:00:00Z", "day": "2001-02-02"}`), &clock{now: now}), "")
		})
	}
}

// TestSamplesJudgeRealDocuments runs each sample of a policy's attestations against documents as the tools write
// them, from the request to the verdict.
func TestSamplesJudgeRealDocuments(t *testing.T) {
	scanned := time.Date(2026, 1, 15, 9, 30, 0, 0, time.UTC)
	soon, late, early := scanned.Add(24*time.Hour), scanned.Add(169*time.Hour), scanned.Add(-time.Hour)
	gpl, provenance := "licences-cyclonedx.yaml", "provenance-slsa.yaml"
	tests := map[string]struct {
		sample, document string
		now              time.Time
		want             Code
		says             string
	}{
		"CycloneDX without copyleft":            {gpl, "cyclonedx-good.json", soon, Verified, ""},
		"CycloneDX with the GPL as id":          {gpl, "cyclonedx-gpl-id.json", soon, ConditionUnmet, `"GPL-3.0-or-later"`},
		"CycloneDX with the GPL in expression":  {gpl, "cyclonedx-gpl-expression.json", soon, ConditionUnmet, `"MIT AND GPL-3.0-only"`},
		"CycloneDX with the GPL as name":        {gpl, "cyclonedx-gpl-name.json", soon, ConditionUnmet, `"GNU General Public License v3 (GPLv3)"`},
		"SPDX without copyleft":                 {"licences-spdx.yaml", "spdx-good.json", soon, Verified, ""},
		"SPDX with the GPL declared":            {"licences-spdx.yaml", "spdx-gpl-declared.json", soon, ConditionUnmet, `"BSD-3-Clause AND GPL-3.0-or-later"`},
		"SPDX with the GPL concluded":           {"licences-spdx.yaml", "spdx-gpl-concluded.json", soon, ConditionUnmet, `"GPL-2.0-only"`},
		"SPDX of an old licence list":           {"licences-spdx.yaml", "spdx-old-list.json", soon, ConditionUnmet, "licence list 3.20 or later"},
		"SPDX without a licence list":           {"licences-spdx.yaml", "spdx-no-list.json", soon, ConditionUnmet, "licence list 3.20 or later"},
		"SARIF without results":                 {"severity-sarif.yaml", "sarif-clean.json", soon, Verified, ""},
		"SARIF with notes":                      {"severity-sarif.yaml", "sarif-good.json", soon, Verified, ""},
		"SARIF with an error":                   {"severity-sarif.yaml", "sarif-error.json", soon, ConditionUnmet, "the scan found errors"},
		"SARIF with a severe warning":           {"severity-sarif.yaml", "sarif-severe-warning.json", soon, ConditionUnmet, `found ["CVE-2024-24790"]`},
		"provenance of the builder":             {provenance, "provenance-v1-good.json", soon, Verified, ""},
		"provenance of another builder":         {provenance, "provenance-v1-other-builder.json", soon, ConditionUnmet, `found "https://github.com/mallory/`},
		"provenance of another source":          {provenance, "provenance-v1-other-source.json", soon, ConditionUnmet, "build it from a repository of acme"},
		"provenance of a pattern for a builder": {provenance, "provenance-v1-pattern.json", soon, ConditionUnmet, `found "*"`},
		"provenance of another version":         {provenance, "provenance-v0.2-good.json", soon, ConditionUnmet, `found "https://slsa.dev/provenance/v0.2"`},
		"provenance v0.2 of the builder":        {"provenance-slsa-v0.2.yaml", "provenance-v0.2-good.json", soon, Verified, ""},
		"provenance v0.2 of another builder":    {"provenance-slsa-v0.2.yaml", "provenance-v0.2-other-builder.json", soon, ConditionUnmet, "or with Tekton Chains"},
		"a fresh scan of trivy":                 {"scan-age.yaml", "scan-trivy.json", soon, Verified, ""},
		"a fresh scan of grype":                 {"scan-age.yaml", "scan-grype.json", soon, Verified, ""},
		"a stale scan of trivy":                 {"scan-age.yaml", "scan-trivy.json", late, ConditionUnmet, `found "169h0m0s"`},
		"a stale scan of grype":                 {"scan-age.yaml", "scan-grype.json", late, ConditionUnmet, "scan the image again"},
		"a scan from the future":                {"scan-age.yaml", "scan-trivy.json", early, ConditionUnmet, "lies in the future"},
		"a scan without a date":                 {"scan-age.yaml", "scan-undated.json", soon, ConditionInvalid, "descriptor"},
		"a fresh scan with critical findings":   {"scan-age.yaml", "scan-grype-critical.json", soon, ConditionUnmet, `found ["Critical"]`},
	}
	used := map[string]map[Code]bool{}
	for sentence, test := range tests {
		if used[test.sample] == nil {
			used[test.sample] = map[Code]bool{}
		}
		used[test.sample][test.want] = true
		t.Run(sentence, func(t *testing.T) {
			document, err := os.ReadFile("../testdata/attestations/" + test.document)
			if err != nil {
				t.Fatal(err)
			}
			result := judge(t, sampleOf(t, test.sample), document, test.now)
			if result.Code != test.want || !strings.Contains(result.Reason, test.says) {
				t.Errorf("%s: %s\nwant %s: ...%s...", result.Code, result.Reason, test.want, test.says)
			}
		})
	}
	everySampleIsUsed(t, used)
}

func everySampleIsUsed(t *testing.T, used map[string]map[Code]bool) {
	t.Helper()
	samples, err := filepath.Glob("../config/samples/attestations/*.yaml")
	if err != nil || len(samples) == 0 {
		t.Fatalf("%d samples: %v", len(samples), err)
	}
	for _, sample := range samples {
		if codes := used[filepath.Base(sample)]; !codes[Verified] || !codes[ConditionUnmet] {
			t.Errorf("%s is not tested with a good and a bad document", sample)
		}
	}
}

// sampleOf reads a sample and resolves it as Kyverno resolves a policy's data, which takes the backslashes off.
func sampleOf(t *testing.T, name string) any {
	t.Helper()
	text, err := os.ReadFile("../config/samples/attestations/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var sample map[string]any
	if err := yaml.UnmarshalStrict(text, &sample); err != nil {
		t.Fatal(err)
	}
	ctx := context.NewContext(jmespath.New(config.NewDefaultConfiguration(false)))
	resolved, err := variables.SubstituteAll(logr.Discard(), ctx, sample["attestations"])
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

// judge decides on one image that carries a trusted attestation of each type that is asked for.
func judge(t *testing.T, attestations any, document []byte, now time.Time) Result {
	t.Helper()
	body := encoded(map[string]any{
		"object":      map[string]any{"apiVersion": "v1", "kind": "Pod", "spec": map[string]any{"containers": []any{map[string]any{"name": "web", "image": "ghcr.io/acme/app:v1"}}}},
		"trustPolicy": "demo", "attestations": attestations,
	})
	request, err := ParseRequest([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	statement := Statement{Name: "everything", RegistryScopes: []string{"*"}, Level: "strict"}
	plan, err := NewPlan(request, Snapshot{Policies: map[string]TrustPolicy{"demo": {Name: "demo", Statements: []Statement{statement}}}}, "")
	if err != nil {
		t.Fatal(err)
	}
	trusted := SignatureFact{Verified: true, Signer: "CN=Acme"}
	fact := Fact{Digest: "sha256:" + strings.Repeat("1", 64), Signature: trusted}
	for range plan.Tasks[0].Attestations {
		attestation := AttestationFact{Digest: "sha256:" + strings.Repeat("2", 64), Signature: trusted, Payload: document}
		fact.Attestations = append(fact.Attestations, AttestationsFact{Candidates: []AttestationFact{attestation}})
	}
	return Decide(plan, []Fact{fact}, now).Results[0]
}

func BenchmarkConditions(b *testing.B) {
	components := make([]any, 20000)
	for i := range components {
		components[i] = map[string]any{
			"type": "library", "name": fmt.Sprintf("package-%d", i), "version": "1.2.3", "purl": fmt.Sprintf("pkg:golang/example.com/package-%d@1.2.3", i),
			"licenses": []any{map[string]any{"license": map[string]any{"id": "Apache-2.0"}}}, "properties": []any{map[string]any{"name": "path", "value": "/go.mod"}},
		}
	}
	document := []byte(encoded(map[string]any{"components": components}))
	condition := Condition{Key: []byte(`"{{ components[].licenses[].license.id }}"`), Operator: "AllNotIn", Value: []byte(`["GPL*", "AGPL*"]`)}
	for _, n := range []int{1, 10} {
		b.Run(fmt.Sprintf("%d conditions on %d KiB", n, len(document)>>10), func(b *testing.B) {
			for b.Loop() {
				if finding := evaluate(Conditions{All: slices.Repeat([]Condition{condition}, n)}, document, &clock{now: time.Now()}); finding != nil {
					b.Fatal(finding.Reason)
				}
			}
		})
	}
	b.Run("decoding alone", func(b *testing.B) {
		for b.Loop() {
			var content any
			if err := json.Unmarshal(document, &content); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("functions alone", func(b *testing.B) {
		for b.Loop() {
			functionsAt(&clock{now: time.Now()})
		}
	})
}
