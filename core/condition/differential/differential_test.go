// Package differential holds conditions against Kyverno's own evaluation of attestations, and policies that were migrated against
// whom Kyverno takes the ClusterPolicy to be for. It is a module of its own, so that
// Kyverno's engine is none of the product's dependencies.
package differential

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	kyverno "github.com/kyverno/kyverno/api/kyverno/v1"
	kyvernowildcard "github.com/kyverno/kyverno/ext/wildcard"
	"github.com/kyverno/kyverno/pkg/config"
	"github.com/kyverno/kyverno/pkg/engine/context"
	"github.com/kyverno/kyverno/pkg/engine/jmespath"
	"github.com/kyverno/kyverno/pkg/engine/variables"

	"github.com/nirmata/kyverno-notation-venafi/core/condition"
	"github.com/nirmata/kyverno-notation-venafi/core/wildcard"
)

var (
	cases = flag.Int("cases", 20_000, "how many conditions are generated")
	seed  = flag.Uint64("seed", 4, "what they are generated from")
)

// leastOfEach is how often each operator must give each answer for the test to mean anything.
const leastOfEach = 20

// outcome is what an evaluation came to.
type outcome string

const (
	met    outcome = "met"
	notMet outcome = "unmet"
	failed outcome = "error"
)

// TestConditionsAgreeWithKyverno holds generated conditions against generated and real documents, here and in Kyverno.
func TestConditionsAgreeWithKyverno(t *testing.T) {
	k := oracle{jmespath.New(config.NewDefaultConfiguration(false))}
	g := &generator{Rand: rand.New(rand.NewPCG(*seed, 19)), real: realDocuments(t), calls: newCalls(t)}
	seen, differences := map[string]map[outcome]int{}, map[string]int{}
	wrong := 0
	for i := range *cases {
		document, c := g.any()
		ours, theirs := here(t, condition.Conditions{All: []condition.Condition{c}}, document), k.evaluate(t, c, document)
		count(seen, c.Operator, ours.outcome)
		if ours.outcome != theirs.outcome {
			if why := different(c, ours, theirs); why != "" {
				differences[why]++
			} else if wrong++; wrong <= 20 {
				t.Errorf("case %d: %s (%s), and Kyverno says %s (%s)\ncondition %s\ndocument %.2000s", i, ours.outcome, ours.why, theirs.outcome, theirs.why, encoded(c), document)
			}
		}
		if i%4 == 0 {
			conditions := g.anyAll()
			count(seen, "any and all", k.together(t, conditions, document))
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d conditions differ", wrong, *cases)
	}
	t.Logf("differences on purpose: %v", differences)
	distributed(t, seen)
}

func count(seen map[string]map[outcome]int, name string, o outcome) {
	if seen[name] == nil {
		seen[name] = map[outcome]int{}
	}
	seen[name][o]++
}

// together holds conditions under any and all against what each of them gives alone.
func (k oracle) together(t *testing.T, c condition.Conditions, document []byte) outcome {
	t.Helper()
	alone := func(c condition.Condition) outcome {
		return here(t, condition.Conditions{All: []condition.Condition{c}}, document).outcome
	}
	want := met
	if len(c.Any) > 0 {
		want = notMet
	}
	for _, one := range c.Any {
		if want = alone(one); want != notMet {
			break
		}
	}
	for _, one := range c.All {
		if o := alone(one); want != failed && o != met {
			if want = o; o == notMet || o == failed {
				break
			}
		}
	}
	got := here(t, c, document).outcome
	if (got == met) != (want == met) {
		t.Errorf("together %s, and one by one %s\nconditions %s\ndocument %s", got, want, encoded(c), document)
	}
	return got
}

// distributed demands that the cases were no formality.
func distributed(t *testing.T, seen map[string]map[outcome]int) {
	t.Helper()
	total := map[outcome]int{}
	for _, name := range append([]string{"any and all"}, condition.Operators()...) {
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

// answer is an outcome with what was said about it, and what was compared.
type answer struct {
	outcome  outcome
	why      string
	compared kyverno.Condition // zero where the evaluation did not get so far
}

func here(t *testing.T, conditions condition.Conditions, document []byte) answer {
	t.Helper()
	result := condition.Evaluate(conditions, document, condition.Environment{Now: time.Now()})
	switch result.Outcome {
	case condition.Met:
		return answer{outcome: met}
	case condition.Unmet:
		return answer{outcome: notMet, why: result.Reason}
	case condition.Invalid:
		return answer{outcome: failed, why: result.Reason}
	}
	t.Fatalf("result %+v of %s", result, encoded(conditions))
	return answer{}
}

// oracle is Kyverno's evaluation.
type oracle struct{ functions jmespath.Interface }

// evaluate evaluates as Kyverno does it for an attestation: all expressions are resolved first.
func (k oracle) evaluate(t *testing.T, c condition.Condition, document []byte) (a answer) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil {
			a.outcome, a.why = failed, fmt.Sprint(r)
		}
	}()
	var written kyverno.Condition
	if err := json.Unmarshal([]byte(encoded(c)), &written); err != nil {
		t.Fatal(err)
	}
	ctx := k.contextOf(t, document)
	resolved, err := variables.SubstituteAllInConditions(logr.Discard(), ctx, []kyverno.AnyAllConditions{{AllConditions: []kyverno.Condition{written}}})
	if err != nil {
		return answer{outcome: failed, why: err.Error()}
	}
	a.compared = resolved[0].AllConditions[0]
	ok, _, err := variables.EvaluateAnyAllConditions(logr.Discard(), ctx, resolved)
	switch {
	case err != nil:
		a.outcome, a.why = failed, err.Error()
	case ok:
		a.outcome = met
	default:
		a.outcome = notMet
	}
	return a
}

func (k oracle) contextOf(t *testing.T, document []byte) context.Interface {
	t.Helper()
	ctx := context.NewContext(k.functions)
	var content any
	if err := json.Unmarshal(document, &content); err != nil {
		t.Fatal(err)
	}
	visible := map[string]any{}
	if members, ok := content.(map[string]any); ok {
		maps.Copy(visible, members)
	}
	visible["element"] = content
	if err := context.AddJSONObject(ctx, visible); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// different names the difference on purpose that explains two outcomes; "" where there is none. The names are those of the
// package's documentation.
func different(c condition.Condition, ours, theirs answer) string {
	text := string(c.Key) + string(c.Value)
	key, value := theirs.compared.GetKey(), theirs.compared.GetValue()
	not := strings.Contains(c.Operator, "Not")
	switch {
	case strings.Contains(text, `\\{{`):
		return "an escaped expression"
	case strings.Contains(theirs.why, "failed to resolve .Advisory"): // as a rule in a report of trivy says
		return "an expression in the document"
	case strings.Contains(text, "$(") && ours.outcome == failed:
		return "a reference"
	case ours.outcome == failed && unavailable.MatchString(ours.why):
		return unavailable.FindString(ours.why)
	case strings.HasSuffix(c.Operator, "In") && (alone(key) || alone(value)):
		return "a whole number by itself"
	case ours.outcome == notMet && theirs.outcome == met && !not && strings.Contains(text, "{{") && hasPattern(key, value):
		return "a pattern in the document"
	case c.Operator == "NotIn" && ours.outcome == notMet && theirs.outcome == met && fmt.Sprint(key) == fmt.Sprintf("[%v]", value):
		return "a list of one that is the text"
	case c.Operator == "AnyNotIn" && ours.outcome == notMet && theirs.outcome == met && strings.HasPrefix(fmt.Sprint(value), "-"):
		return "a negative range"
	case unitAlone(key) || unitAlone(value) || strings.Contains(ours.why, "invalid operand"):
		return "a unit without a number"
	case theirs.outcome == failed && (strings.Contains(text, "(items(") || strings.Contains(text, ", items(")):
		return "items gives a list"
	case strings.Contains(text, "compare("):
		return "compare"
	}
	return ""
}

// unavailable is what only this side refuses.
var unavailable = regexp.MustCompile(`random gives another text|is_external_url asks|no finite number|stands alone|out of range|takes a list of texts|text with \{\{ in it`)

// alone tells that a whole number stands by itself that Kyverno writes with an exponent.
func alone(value any) bool {
	n, ok := value.(int64)
	return ok && (n >= 1e6 || n <= -1e6)
}

// unit is that of a quantity, or an exponent, without a number.
var unit = regexp.MustCompile(`^(?:[+-]|[+-]?(?:[numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+))$`)

// unitAlone tells that such a unit stands in a value.
func unitAlone(value any) bool {
	if list, ok := value.([]any); ok {
		return slices.ContainsFunc(list, unitAlone)
	}
	text, ok := value.(string)
	return ok && unit.MatchString(text)
}

func hasPattern(values ...any) bool {
	return slices.ContainsFunc(values, func(v any) bool { return strings.ContainsAny(encoded(v), "*?") })
}

func encoded(value any) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err)
	}
	return strings.TrimSpace(text.String())
}

// TestMatchIsKyvernos holds the matcher against Kyverno's on every kind of short pattern and text.
func TestMatchIsKyvernos(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	word := func(letters []rune) string {
		text := make([]rune, random.IntN(9))
		for i := range text {
			text[i] = letters[random.IntN(len(letters))]
		}
		return string(text)
	}
	matched := 0
	for range 200000 {
		pattern, text := word([]rune("ab/é*?*")), word([]rune("ab/é"))
		got, want := wildcard.Match(pattern, text, nil), kyvernowildcard.Match(pattern, text)
		if got != want {
			t.Fatalf("Match(%q, %q) = %t, and Kyverno says %t", pattern, text, got, want)
		}
		if got {
			matched++
		}
	}
	if matched < 1000 {
		t.Errorf("only %d pairs matched; the test shows little", matched)
	}
}

// TestOperatorsAreKyvernos holds the operators that a request may name against those that Kyverno knows.
func TestOperatorsAreKyvernos(t *testing.T) {
	var theirs []string
	for name := range kyverno.ConditionOperators {
		theirs = append(theirs, name)
	}
	ours := condition.Operators()
	slices.Sort(theirs)
	slices.Sort(ours)
	if !slices.Equal(ours, theirs) {
		t.Errorf("operators %q, and Kyverno has %q", ours, theirs)
	}
}

// realDocument is one that a tool wrote, with the paths to what stands in it.
type realDocument struct {
	text  []byte
	paths []string
	words []any
}

func realDocuments(t *testing.T) []realDocument {
	t.Helper()
	names, err := filepath.Glob("../../../testdata/attestations/*.json")
	if err != nil || len(names) < 20 {
		t.Fatalf("%d documents: %v", len(names), err)
	}
	var documents []realDocument
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var content any
		if err := json.Unmarshal(text, &content); err != nil {
			t.Fatal(err)
		}
		d := realDocument{text: text}
		d.collect("", content)
		documents = append(documents, d)
	}
	return documents
}

// collect notes a path to every value below a value, in the ways in which policies write them.
func (d *realDocument) collect(path string, value any) {
	if path != "" {
		d.paths = append(d.paths, path)
	}
	switch v := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			quoted := name
			if !plainName.MatchString(name) {
				quoted = fmt.Sprintf("%q", name)
			}
			d.collect(strings.TrimPrefix(path+"."+quoted, "."), v[name])
		}
	case []any:
		for i, element := range v[:min(len(v), 3)] {
			for _, how := range []string{"[]", "[*]", fmt.Sprintf("[%d]", i), "[?@]"} {
				d.collect(path+how, element)
			}
		}
	default:
		d.words = append(d.words, v)
	}
}

var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// any is a document with a condition on it.
func (g *generator) any() ([]byte, condition.Condition) {
	switch {
	case g.often(15):
		return g.calls.condition()
	case g.often(65):
		return g.document(), g.condition()
	}
	d := g.real[g.IntN(len(g.real))]
	path := d.paths[g.IntN(len(d.paths))]
	word := func() any {
		w := d.words[g.IntN(len(d.words))]
		if text, ok := w.(string); ok && len(text) > 1 && g.often(30) {
			cut := g.IntN(len(text))
			return pick[any](g, text[:cut]+"*", "*"+text[cut:], text[:cut], strings.ToUpper(text), text+" ")
		}
		return w
	}
	expression := pick(g, path, path, path, path+" || `[]`", "length("+path+")", "to_string("+path+")", "type("+path+")", "keys("+path+")", "sort("+path+")",
		path+" | [0]", "to_number("+path+")", "join(',', "+path+")", "contains("+path+", '"+strings.ReplaceAll(fmt.Sprint(word()), "'", "")+"')", "not_null("+path+")",
		"max("+path+")", "reverse("+path+")", "to_array("+path+")", "values("+path+")[]", path+" == "+d.paths[g.IntN(len(d.paths))], "items("+path+", 'k', 'v')")
	value := pick(g, word, word, func() any { return g.list(word) }, func() any { return g.list(word) }, g.value, func() any { return g.wrap(d.paths[g.IntN(len(d.paths))]) })()
	return d.text, condition.Condition{Key: []byte(encoded(g.wrap(expression))), Operator: pick(g, condition.Operators()...), Value: []byte(encoded(value))}
}

// generator makes documents, and conditions that have something to do with them.
type generator struct {
	*rand.Rand
	real  []realDocument
	calls *calls
}

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
	return pick[any](g, "1-10", "!1-10", "0.5-2.5", "10-20", "1h-2h", "512Mi-2Gi", "1.0.0-2.0.0", ">=3", "<10", ">=1 & <=10", "<1 | >5", "!5", ">1Gi", "<2h", "10-1", "-5-5", "-10--1")
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

func (g *generator) anyAll() condition.Conditions {
	var c condition.Conditions
	for range g.IntN(4) {
		c.Any = append(c.Any, g.condition())
	}
	for range g.IntN(3) {
		c.All = append(c.All, g.condition())
	}
	return c
}

func (g *generator) condition() condition.Condition {
	operator := pick(g, condition.Operators()...)
	key, value := g.pair(operator)
	if g.often(8) {
		value = g.value()
	}
	return condition.Condition{Key: []byte(encoded(key)), Operator: operator, Value: []byte(encoded(value))}
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
