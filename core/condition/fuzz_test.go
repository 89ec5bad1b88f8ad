package condition

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// FuzzEvaluate holds that an evaluation ends within its budget, is the same again, and is met only if that of a plain
// reading of the condition is, where there is one.
func FuzzEvaluate(f *testing.F) {
	for _, seed := range [][4]string{
		{`{"a":"MIT","b":[1,2]}`, `"{{ a }}"`, "Equals", `"MIT"`}, {`{"a":["x"]}`, `"{{ a }}"`, "AllNotIn", `["GPL*"]`},
		{`{"a":"1h"}`, `"{{ a }}"`, "DurationLessThan", `"2h"`}, {`{"a":"5"}`, `"{{ a }}"`, "AnyIn", `"1-10"`}, {`{"a":{"b":[{"c":1}]}}`, `"{{ a.b[?c].c | [0] }}"`, "GreaterThan", `0`},
		{`{"a":"{{ b }}"}`, `"x{{ a }}{{- a }}"`, "NotEquals", `"x"`}, {`[]`, `"{{ element[*][] }}"`, "NotIn", `"[]"`}, {`{"a":"1Gi"}`, `"{{ add(a, '1Mi') }}"`, "LessThanOrEquals", `"2Gi"`},
		{`{"a":"b"}`, `["{{ element.{{ a }} }}"]`, "In", `{"{{ a }}":1}`}, {`{"a":"b"}`, `"{{ sort_by([element,element], &a)[::-1] }}"`, "Equal", `null`},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]), seed[2], []byte(seed[3]))
	}
	for _, w := range worstInputs() {
		if value, err := json.Marshal(w.value); err == nil && len(w.document) < 4096 {
			f.Add([]byte(w.document), []byte(encoded("{{ "+w.key+" }}")), w.operator, value)
		}
	}
	f.Fuzz(func(t *testing.T, document, key []byte, operator string, value []byte) {
		c := Condition{Key: key, Operator: operator, Value: value}
		given := budget{steps: 1 << 20, bytes: 1 << 22, look: lookAt} // less than there is, so that many are tried
		evaluate := func(document []byte) Result {
			b := given
			return b.evaluate(Conditions{All: []Condition{c}}, document, time.Unix(1, 0))
		}
		result := evaluate(document)
		if result.Steps > given.steps || result.Bytes > given.bytes || len(result.Reason) > maxReason+3 || (result.Reason == "") != (result.Outcome == Met) {
			t.Fatalf("%+v of %+v", result, given)
		}
		if again := evaluate(slices.Clone(document)); !reflect.DeepEqual(again, result) {
			t.Fatalf("first %+v, and then %+v", result, again)
		}
		if met, known := plainly(c, document); known && met != (result.Outcome == Met) {
			t.Fatalf("%+v, and read plainly it is met: %t", result, met)
		}
	})
}

// plainly evaluates a condition that compares a member of the document with a value that is no pattern, no duration and no
// quantity, and holds no expression.
func plainly(c Condition, document []byte) (met, known bool) {
	var content map[string]any
	var key string
	var value any
	if json.Unmarshal(document, &content) != nil || json.Unmarshal(c.Key, &key) != nil || json.Unmarshal(c.Value, &value) != nil {
		return false, false
	}
	if _, err := decodeDocument(document, newBudget(len(document), nil)); err != nil {
		return false, false
	}
	name, ok := strings.CutPrefix(key, "{{ ")
	name, isWhole := strings.CutSuffix(name, " }}")
	found, there := content[name]
	word := func(v any) bool {
		text, ok := v.(string)
		return ok && text != "" && strings.Trim(text, "abcdefgxyz") == ""
	}
	if !ok || !isWhole || !there || !word(name) || !word(found) && found != true {
		return false, false
	}
	list, isList := value.([]any)
	if !isList && !word(value) || isList && slices.ContainsFunc(list, func(v any) bool { return !word(v) }) {
		return false, false
	}
	switch strings.ToLower(c.Operator) {
	case "equals":
		return reflect.DeepEqual(found, value), true
	case "notequals":
		return !reflect.DeepEqual(found, value), true
	case "allin":
		return isList && word(found) && slices.Contains(list, found), isList
	case "allnotin":
		return isList && !(word(found) && slices.Contains(list, found)), isList && word(found)
	}
	return false, false
}
