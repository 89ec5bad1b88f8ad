package condition

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// sbom has what the sentences below speak of.
const sbom = `{
	"name": "app", "braces": "{{ name }}", "nothing": null, "count": 3, "map": {"name": 1}, "texts": ["{{ name }}", "${{ secrets.TOKEN }}"],
	"components": [
		{"name": "a", "licenses": [{"license": {"id": "MIT"}}]},
		{"name": "b", "licenses": [{"expression": "GPL-3.0-only"}]},
		{"name": "c"}
	]
}`

func TestEvaluateReportsTheValueFound(t *testing.T) {
	tests := map[string]struct {
		conditions string
		outcome    Outcome
		says       []string
	}{
		"a condition that is met says nothing": {`{"all": [{"key": "{{ name }}", "operator": "Equals", "value": "app"}]}`, Met, nil},
		"an unmet one shows key, found, operator, wanted and message": {
			`{"all": [{"key": "{{ element.components[].licenses[].expression }}", "operator": "AllNotIn", "value": ["GPL*"], "message": "no GPL"}]}`, Unmet,
			[]string{`the condition on {{ element.components[].licenses[].expression }} is not met: found ["GPL-3.0-only"], wanted AllNotIn ["GPL*"]: no GPL`}},
		"every one of all that fails is shown": {
			`{"all": [{"key": "{{ name }}", "operator": "Equals", "value": "x"}, {"key": "{{ count }}", "operator": "Equals", "value": 3}, {"key": "{{ count }}", "operator": "GreaterThan", "value": 3}]}`, Unmet,
			[]string{`the condition on {{ name }} is not met: found "app", wanted Equals "x"; the condition on {{ count }} is not met: found 3, wanted GreaterThan 3`}},
		"every one of any is shown": {
			`{"any": [{"key": "{{ name }}", "operator": "Equals", "value": "1"}, {"key": "{{ name }}", "operator": "Equals", "value": "2"}, {"key": "{{ name }}", "operator": "Equals", "value": "3"}, {"key": "{{ name }}", "operator": "Equals", "value": "4"}]}`, Unmet,
			[]string{"none of the 4 conditions under any is met: ", `wanted Equals "1"; `, `wanted Equals "2"; `, `wanted Equals "3"; `, `wanted Equals "4"`}},
		"a single one under any reads like one under all": {
			`{"any": [{"key": "{{ name }}", "operator": "Equals", "value": "1"}]}`, Unmet,
			[]string{`the condition on {{ name }} is not met: found "app", wanted Equals "1"`}},
		"failures of any and of all are both shown": {
			`{"any": [{"key": "{{ name }}", "operator": "Equals", "value": "1"}], "all": [{"key": "{{ count }}", "operator": "Equals", "value": 4}]}`, Unmet,
			[]string{`found "app", wanted Equals "1"; and the condition on {{ count }} is not met: found 3, wanted Equals 4`}},
		"an error under all counts although any is unmet": {
			`{"any": [{"key": "{{ name }}", "operator": "Equals", "value": "1"}], "all": [{"key": "{{ absent }}", "operator": "Equals", "value": 4}]}`, Invalid,
			[]string{`wanted Equals "1"`, `asks for "absent"`}},
		"a path that is not there is named": {
			`{"all": [{"key": "{{ map.absent.deep }}", "operator": "Equals", "value": 1}]}`, Invalid,
			[]string{`the condition on {{ map.absent.deep }} cannot be evaluated: the expression "map.absent.deep" asks for "absent", which the payload does not have there`}},
		"a path that is not there in a value is named": {
			`{"all": [{"key": "{{ name }}", "operator": "Equals", "value": "{{ absent }}"}]}`, Invalid,
			[]string{`the condition on {{ name }} cannot be evaluated, because of its value {{ absent }}: the expression "absent" asks for "absent"`}},
		"an expression that does not compile is named": {
			`{"all": [{"key": "{{ components[ }}", "operator": "Equals", "value": 1}]}`, Invalid, []string{`the expression "components[" does not compile: `}},
		"a function that does not exist is named": {
			`{"all": [{"key": "{{ licence(name) }}", "operator": "Equals", "value": 1}]}`, Invalid, []string{`the expression "licence(name)" fails: unknown function: licence`}},
		"an argument of a wrong type is spoken of in JSON's words": {
			`{"all": [{"key": "{{ length(nothing) }}", "operator": "Equals", "value": 1}]}`, Invalid, []string{`the expression "length(nothing)" gives a function null, which takes "string", "array", "object"`}},
		"is_external_url is not available": {
			`{"all": [{"key": "{{ is_external_url('https://example.com') }}", "operator": "Equals", "value": true}]}`, Invalid, []string{"is_external_url asks the network"}},
		"text of the payload is shown but not evaluated": {
			`{"all": [{"key": "{{ braces }}", "operator": "Equals", "value": "app"}]}`, Unmet, []string{`found "{{ name }}"`}},
		"text in a list of the payload is not evaluated either": {
			`{"all": [{"key": "{{ texts }}", "operator": "AnyIn", "value": ["app"]}]}`, Unmet, []string{`found ["{{ name }}","${{ secrets.TOKEN }}"]`}},
		"text in an object of the payload is not evaluated either": {
			`{"all": [{"key": "{{ element }}", "operator": "Equals", "value": "x"}]}`, Unmet, []string{`"braces":"{{ name }}"`}},
		"a list inside a text is its JSON": {
			`{"all": [{"key": "x{{ components[].licenses[].expression }}", "operator": "Equals", "value": "x[\"GPL-3.0-only\"]"}]}`, Met, nil},
		"expressions within a list keep their types": {
			`{"all": [{"key": ["{{ name }}", "{{ texts }}"], "operator": "Equals", "value": ["app", "{{ texts }}"]}]}`, Met, nil},
		"text of the payload does not become an expression inside another text": {
			`{"all": [{"key": "x{{ braces }}", "operator": "Equals", "value": "xapp"}]}`, Invalid, []string{`the expression "braces" gives text with {{ in it`}},
		"a function that panics is an error": {
			`{"all": [{"key": "x{{- count }}", "operator": "Equals", "value": "x"}]}`, Invalid, []string{"cannot be evaluated: "}},
		"an expression that is very long is not read": {
			`{"all": [{"key": "{{ ` + strings.Repeat("(", maxExpression+1) + ` }}", "operator": "Equals", "value": 1}]}`, Invalid, []string{"at most 65536 are read"}},
		"an expression that nests too deep is not read": {
			`{"all": [{"key": "{{ ` + strings.Repeat("(", maxNesting+1) + ` }}", "operator": "Equals", "value": 1}]}`, Invalid, []string{"over 1000 brackets and signs"}},
		"what an expression doubles again and again is not made": {
			`{"all": [{"key": "{{ [element,element]` + strings.Repeat("|[@,@]", 40) + ` }}", "operator": "AllNotIn", "value": ["x"]}]}`, Invalid, []string{"takes more memory than a document of its size is given"}},
		"nor within a text": {
			`{"all": [{"key": "x{{ [name,name]` + strings.Repeat("|[@,@]", 40) + ` }}", "operator": "Equals", "value": 1}]}`, Invalid, []string{"than a document of its size is given; select a part of the document first"}},
		"nor as a list that grows": {
			`{"all": [{"key": "{{ texts` + strings.Repeat("|[@,@][]", 40) + ` }}", "operator": "Equals", "value": 1}]}`, Invalid, []string{"than a document of its size is given; select a part of the document first"}},
		"nor as a text": {
			`{"all": [{"key": "{{ name` + strings.Repeat("|join('',[@,@])", 40) + ` }}", "operator": "Equals", "value": 1}]}`, Invalid, []string{"than a document of its size is given; select a part of the document first"}},
		"nor as an argument": {
			`{"all": [{"key": "{{ length(to_string(element` + strings.Repeat("|{a:@,b:@}", 40) + `)) }}", "operator": "Equals", "value": 1}]}`, Invalid, []string{"than a document of its size is given; select a part of the document first"}},
		"nor by a comparison": {
			`{"all": [{"key": "{{ (element` + strings.Repeat("|[@,@]", 40) + `) == (element` + strings.Repeat("|[@,@]", 40) + `) }}", "operator": "Equals", "value": 1}]}`, Invalid, []string{"takes more work than a document of its size is given"}},
		"a text that replaces its own parts does not grow without end": {
			`{"all": [{"key": "{{ name` + strings.Repeat("|replace_all(@,'p',@)", 40) + ` }}", "operator": "Equals", "value": 1}]}`, Invalid, []string{"arguments that are too large; select a part of them"}},
		"a value that is doubled a few times is shown in part": {
			`{"all": [{"key": "{{ texts` + strings.Repeat("|[@,@]", 18) + ` }}", "operator": "Equals", "value": 1}]}`, Unmet, []string{`found [[[[[[[[[[[[[[[[[[["{{ name }}",`}},
		"a long value is not put into a text": {
			`{"all": [{"key": "x{{ name` + strings.Repeat("|join('',[@,@])", 19) + ` }}", "operator": "Equals", "value": 1}]}`, Invalid, []string{"too large to stand inside a text"}},
		"many large values do not add up": {
			`{"all": [{"key": [` + strings.Repeat(`"{{ name`+strings.Repeat("|[@,@]", 18)+` }}",`, 65) + `1], "operator": "AnyIn", "value": [1]}]}`, Invalid, []string{"takes more memory"}},
		"an author's long texts are cut": {
			`{"all": [{"key": "{{ name }}", "operator": "Equals", "value": "x", "message": "` + strings.Repeat("no ", 50000) + `"}]}`, Unmet, []string{"..."}},
		"a key of very many expressions is not resolved": {
			`{"all": [{"key": "` + strings.Repeat("{{name}} ", maxQueries+1) + `", "operator": "Equals", "value": 1}]}`, Invalid, []string{"more than 100 expressions"}},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			var conditions Conditions
			if err := json.Unmarshal([]byte(test.conditions), &conditions); err != nil {
				t.Fatal(err)
			}
			result := Evaluate(conditions, []byte(sbom), Environment{})
			expect(t, result, test.outcome, test.says...)
			if len(result.Reason) > maxReason+3 {
				t.Errorf("the reason has %d bytes", len(result.Reason))
			}
		})
	}
}

func TestEvaluateBehavesAsTheReadmeWarns(t *testing.T) {
	tests := map[string]struct {
		document, key, operator, value string
		outcome                        Outcome
	}{
		"a pattern matches no list in a list":               {sbom, "{{ components[*].licenses[*].expression }}", "AllNotIn", `["GPL-*"]`, Met},
		"it does once the lists are flattened":              {sbom, "{{ components[].licenses[].expression }}", "AllNotIn", `["GPL-*"]`, Unmet},
		"a pattern in the payload matches nothing in AnyIn": {`{"id": "*"}`, "{{ id }}", "AnyIn", `["https://example.com/builder"]`, Unmet},
		"nor does it in Equals":                             {`{"id": "*"}`, "{{ id }}", "Equals", `"https://example.com/builder"`, Unmet},
		"null is not in a list":                             {sbom, "{{ components[9] }}", "AnyIn", `["x"]`, Unmet},
		"and null is not in none":                           {sbom, "{{ components[9] }}", "AllNotIn", `["x"]`, Unmet},
		"large numbers are found in lists":                  {`{"n": 1234567}`, "{{ n }}", "AnyIn", `[1234567]`, Met},
		"large numbers are equal":                           {`{"n": 1234567}`, "{{ n }}", "Equals", `1234567`, Met},
		"a DSSE envelope can be opened":                     {`{"payload": "eyJwcmVkaWNhdGUiOnsieCI6Im9rIn19"}`, "{{ parse_json(base64_decode(payload)).predicate.x }}", "Equals", `"ok"`, Met},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			condition := Condition{Key: []byte(encoded(test.key)), Operator: test.operator, Value: []byte(test.value)}
			expect(t, Evaluate(Conditions{All: []Condition{condition}}, []byte(test.document), Environment{}), test.outcome)
		})
	}
}

// expect holds a result against an outcome and parts of its text.
func expect(t *testing.T, result Result, outcome Outcome, says ...string) {
	t.Helper()
	if result.Outcome != outcome {
		t.Errorf("outcome %d; want %d: %s", result.Outcome, outcome, cut(result.Reason))
	}
	for _, part := range says {
		if !strings.Contains(result.Reason, part) {
			t.Errorf("text %s\nwant in it %s", result.Reason, part)
		}
	}
}

func TestEvaluateShowsTheFailingElementsOfALongList(t *testing.T) {
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
			expect(t, Evaluate(Conditions{All: []Condition{condition}}, []byte(encoded(licences)), Environment{}), Unmet, test.want)
		})
	}
}

func TestEvaluateCutsLongValuesFound(t *testing.T) {
	document := []byte(encoded(map[string]any{"text": strings.Repeat("ü", 1<<20)}))
	result := Evaluate(Conditions{All: []Condition{{Key: []byte(`"{{ text }}"`), Operator: "Equals", Value: []byte(`"x"`)}}}, document, Environment{})
	expect(t, result, Unmet, `found "`+strings.Repeat("ü", maxShown-1)+`..., wanted`)
}

func TestEvaluateReadsTheGivenClock(t *testing.T) {
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
			expect(t, Evaluate(Conditions{All: []Condition{condition}}, []byte(`{"at": "2001-02-03T00:00:00Z", "day": "2001-02-02"}`), Environment{Now: now}), Met)
		})
	}
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
				if result := Evaluate(Conditions{All: slices.Repeat([]Condition{condition}, n)}, document, Environment{}); result.Outcome != Met {
					b.Fatal(result.Reason)
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
}

func TestEvaluateTellsWhatMetConditionsSaw(t *testing.T) {
	many := strings.Repeat(`{"key": "{{ name }}", "operator": "Equals", "value": "app"},`, 500) + `{"key": "{{ count }}", "operator": "Equals", "value": 3}`
	name := `the condition on {{ name }} is met: found "app", wanted Equals "app"`
	tests := map[string]struct {
		conditions string
		outcome    Outcome
		first      []string
		last       string
	}{
		"each of all": {`{"all": [{"key": "{{ name }}", "operator": "Equals", "value": "app"}, {"key": "{{ components[].name }}", "operator": "AllNotIn", "value": ["x"]}]}`, Met,
			[]string{name}, `the condition on {{ components[].name }} is met: found ["a","b","c"], wanted AllNotIn ["x"]`},
		"that one of any which is met":            {`{"any": [{"key": "{{ count }}", "operator": "Equals", "value": 4}, {"key": "{{ name }}", "operator": "Equals", "value": "app"}]}`, Met, []string{name}, name},
		"those that are met where others are not": {`{"all": [{"key": "{{ name }}", "operator": "Equals", "value": "app"}, {"key": "{{ count }}", "operator": "Equals", "value": 4}]}`, Unmet, []string{name}, name},
		"none where none is met":                  {`{"all": [{"key": "{{ count }}", "operator": "Equals", "value": 4}]}`, Unmet, nil, ""},
		"some of many":                            {`{"all": [` + many + `]}`, Met, []string{name, name}, `and 440 more are met`},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			var conditions Conditions
			if err := json.Unmarshal([]byte(tt.conditions), &conditions); err != nil {
				t.Fatal(err)
			}
			got := Evaluate(conditions, []byte(sbom), Environment{})
			last := ""
			if len(got.Met) > 0 {
				last = got.Met[len(got.Met)-1]
			}
			if got.Outcome != tt.outcome || last != tt.last || !slices.Equal(got.Met[:min(len(got.Met), len(tt.first))], tt.first) {
				t.Errorf("%v (%s), saw %d: %q", got.Outcome, got.Reason, len(got.Met), got.Met)
			}
		})
	}
}

// TestTellingChangesNoOutcome has conditions on an object that takes more work to show than is given to showing.
func TestTellingChangesNoOutcome(t *testing.T) {
	var document strings.Builder
	document.WriteString(`{"o":{"a":1`)
	for i := range maxMetSteps / 4 {
		fmt.Fprintf(&document, `,"n%d":1`, i)
	}
	document.WriteString(`}}`)
	condition := Condition{Key: json.RawMessage(`"{{ o }}"`), Operator: "NotEquals", Value: json.RawMessage(`"x"`)}
	got := Evaluate(Conditions{All: []Condition{condition}}, []byte(document.String()), Environment{})
	if got.Outcome != Met || len(got.Met) != 1 || !strings.Contains(got.Met[0], "found a value that takes long to show, wanted NotEquals \"x\"") {
		t.Errorf("%v (%s): %.300q", got.Outcome, got.Reason, got.Met)
	}
}
