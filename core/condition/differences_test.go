package condition

import (
	"strings"
	"testing"
	"time"
)

func TestEvaluateDiffersFromKyvernoAsDocumented(t *testing.T) {
	tests := map[string]struct {
		document, key, operator, value string
		outcome                        Outcome
		says                           string
	}{
		"what an expression gave is text":                   {`{"a":"{{ b }}","b":"x"}`, `"{{ a }}"`, "Equals", `"x"`, Unmet, `found "{{ b }}"`},
		"in a list as well":                                 {`{"a":["{{ b }}"],"b":"x"}`, `"{{ a }}"`, "AnyIn", `["x"]`, Unmet, ""},
		"and is refused inside a text":                      {`{"a":"{{ b }}","b":"x"}`, `"-{{ a }}"`, "Equals", `"-x"`, Invalid, "gives text with {{ in it"},
		"a text that completes braces stays a text":         {`{"a":"{","b":"x"}`, `"{{ a }}{ b }}"`, "Equals", `"\\{{ b }}"`, Met, ""},
		"a text that ends with a backslash hides nothing":   {`{"a":"\\","b":"x"}`, `"{{ a }}{{ b }}"`, "Equals", `"\\x"`, Met, ""},
		"an escaped expression is text":                     {`{"b":"x"}`, `"\\{{ b }}"`, "Equals", `"x"`, Unmet, `found "{{ b }}"`},
		"a whole number by itself is found":                 {`{"n":1234567}`, `"{{ n }}"`, "AnyIn", `[1234567]`, Met, ""},
		"and is not missing":                                {`{"n":1234567}`, `"{{ n }}"`, "AllNotIn", `[1234567]`, Unmet, ""},
		"nor under NotIn":                                   {`{"n":1234567}`, `"{{ n }}"`, "NotIn", `[1234567]`, Unmet, ""},
		"numbers in a list are found":                       {`{"n":[1234567]}`, `"{{ n }}"`, "AllNotIn", `[1234567]`, Unmet, ""},
		"a list of numbers equals itself":                   {`{"n":[1,2]}`, `"{{ n }}"`, "NotEquals", `[1,2]`, Unmet, ""},
		"an object of numbers equals itself":                {`{"n":{"a":[1]}}`, `"{{ n }}"`, "NotEquals", `{"a":[1]}`, Unmet, ""},
		"a pattern of the document helps nothing under In":  {`{"a":"*"}`, `"{{ a }}"`, "In", `["x"]`, Unmet, ""},
		"nor under AnyIn":                                   {`{"a":["*"]}`, `"{{ a }}"`, "AnyIn", `["x"]`, Unmet, ""},
		"nor under AllIn":                                   {`{"a":["*","?"]}`, `"{{ a }}"`, "AllIn", `["x"]`, Unmet, ""},
		"nor under Equals as the value":                     {`{"a":"*"}`, `"x"`, "Equals", `"{{ a }}"`, Unmet, ""},
		"nor as a value in a list":                          {`{"a":"*"}`, `"x"`, "AnyIn", `["y","{{ a }}"]`, Unmet, ""},
		"it is equal to itself":                             {`{"a":"*"}`, `"{{ a }}"`, "AnyIn", `["*"]`, Met, ""},
		"the author's pattern in the same list helps":       {`{"a":"y"}`, `"x1"`, "AnyIn", `["x*","{{ a }}"]`, Met, ""},
		"the author's pattern as the key helps":             {`{"a":["x1"]}`, `"x*"`, "AnyIn", `"{{ a }}"`, Met, ""},
		"it still denies under AllNotIn":                    {`{"a":"*"}`, `"{{ a }}"`, "AllNotIn", `["x"]`, Unmet, ""},
		"and under NotEquals":                               {`{"a":"*"}`, `"x"`, "NotEquals", `"{{ a }}"`, Unmet, ""},
		"a list of one that is the text is not under NotIn": {`{"a":["x"]}`, `"{{ a }}"`, "NotIn", `"x"`, Unmet, ""},
		"a number in a negative range":                      {`{"a":["3"]}`, `"{{ a }}"`, "AnyNotIn", `"-5-5"`, Unmet, ""},
		"a number outside of a negative range":              {`{"a":["7"]}`, `"{{ a }}"`, "AnyNotIn", `"-5-5"`, Met, ""},
		"In with numbers":                                   {`{"a":[1]}`, `"{{ a }}"`, "In", `["1"]`, Invalid, "In takes a list of texts"},
		"a reference":                                       {`{"a":1}`, `"$(./../value)"`, "Equals", `1`, Invalid, "is a reference"},
		"an escaped reference":                              {`{"a":1}`, `"\\$(a)"`, "Equals", `"?(a)"`, Met, ""},
		"the current node alone":                            {`{"request":{"object":1}}`, `"{{ @ }}"`, "Equals", `1`, Invalid, "write element"},
		"NaN":                                               {`{"a":"NaN"}`, `"{{ to_number(a) > ` + "`7`" + ` }}"`, "Equals", `false`, Invalid, "no finite number"},
		"infinity":                                          {`{"a":1e308}`, `"{{ multiply(a, a) }}"`, "NotEquals", `1`, Invalid, "no finite number"},
		"the average of nothing":                            {`{"a":[]}`, `"{{ avg(a) }}"`, "NotEquals", `1`, Invalid, "no finite number"},
		"compare gives a number":                            {`{"a":"x"}`, `"{{ compare(a, 'x') != ` + "`0`" + ` }}"`, "Equals", `true`, Unmet, ""},
		"items gives a list":                                {`{"a":{"x":1}}`, `"{{ reverse(items(a, 'k', 'v'))[0].k }}"`, "Equals", `"x"`, Met, ""},
		"sort_by leaves the document":                       {`{"a":[{"n":2},{"n":1}]}`, `["{{ sort_by(a, &n)[0].n }}","{{ a[0].n }}"]`, "Equals", `[1,2]`, Met, ""},
		"members come in the order of names":                {`{"a":{"z":1,"b":2,"y":3}}`, `["{{ keys(a) }}","{{ values(a) }}","{{ a.* }}"]`, "Equals", `[["b","y","z"],[2,3,1],[2,3,1]]`, Met, ""},
		"a function is called with each member once":        {`{"a":{"x":"y"}}`, `"{{ a.*.length(@) }}"`, "Equals", `[1]`, Met, ""},
		"random":                                            {`{}`, `"{{ random('a') }}"`, "Equals", `"a"`, Invalid, "not available here"},
		"random that a filter would swallow":                {`{}`, `"{{ length(random('a')[?x] || ` + "`[]`" + `) }}"`, "Equals", `0`, Invalid, "not available here"},
		"is_external_url":                                   {`{}`, `"{{ is_external_url('https://example.com') }}"`, "Equals", `true`, Invalid, "asks the network"},
		"YAML with an alias":                                {`{"a":"x: &a 1\ny: *a"}`, `"{{ parse_yaml(a).y }}"`, "Equals", `1`, Invalid, "anchors or aliases"},
		"YAML without":                                      {`{"a":"x: 1\nz: a & b * c"}`, `"{{ parse_yaml(a).z }}"`, "Equals", `"a & b * c"`, Met, ""},
		"a duration that is too long to add":                {`{"a":"2562047h"}`, `"{{ add(a, a) }}"`, "DurationLessThan", `"1h"`, Invalid, "a duration that is out of range"},
		"to subtract":                                       {`{"a":"-2562047h"}`, `"{{ subtract(a, '2562047h') }}"`, "DurationGreaterThan", `"1h"`, Invalid, "a duration that is out of range"},
		"to multiply":                                       {`{"a":"2562047h"}`, `"{{ multiply(a, ` + "`2`" + `) }}"`, "DurationLessThan", `"1h"`, Invalid, "a duration that is out of range"},
		"to divide":                                         {`{"a":"2562047h"}`, `"{{ divide(a, ` + "`0.1`" + `) }}"`, "DurationLessThan", `"1h"`, Invalid, "a duration that is out of range"},
		"that a filter would swallow":                       {`{"a":"2562047h"}`, `"{{ length(add(a, a)[?x] || ` + "`[]`" + `) }}"`, "Equals", `0`, Invalid, "a duration that is out of range"},
		"a unit without a number":                           {`{"a":"M"}`, `"{{ a }}"`, "Equals", `"k"`, Unmet, ""},
		"an exponent without one":                           {`{"a":"e5"}`, `"{{ a }}"`, "NotEquals", `"E10"`, Met, ""},
		"a unit that is computed with":                      {`{"a":"k"}`, `"{{ add(a, '1') }}"`, "Equals", `"1"`, Invalid, "invalid operand"},
		"round to a negative number of places":              {`{"a":15}`, `"{{ round(a, ` + "`-1`" + `) }}"`, "Equals", `20`, Invalid, "JMESPath function 'round': argument #2 is negative"},
		"a name twice":                                      {`{"a":1,"a":2}`, `"{{ a }}"`, "Equals", `2`, DocumentInvalid, "twice"},
		"a name twice in JSON that an expression reads":     {`{"a":"{\"b\":1,\"b\":2}"}`, `"{{ parse_json(a).b }}"`, "Equals", `2`, Invalid, "twice"},
		"a byte order mark":                                 {"\xEF\xBB\xBF{\"a\":1}", `"{{ a }}"`, "Equals", `1`, Met, ""},
		"something too large that a filter would swallow":   {`{"a":"` + strings.Repeat("9", 6<<20) + `"}`, `"{{ length(to_upper(a)[?x] || ` + "`[]`" + `) }}"`, "Equals", `0`, Invalid, "too large"},
		"names that become one":                             {`{"a":"x"}`, `{"{{ a }}": 1, "x": 2}`, "Equals", `{"x": 2}`, Invalid, "two members of the name"},
		"an expression that stands for a value":             {`{"a":"x"}`, `"{{ [&a] }}"`, "NotEquals", `1`, Invalid, "where no function takes an expression"},
		"an object that a filter is applied to, as Kyverno": {`{"a":{"b":1}}`, `"{{ a[?b] }}"`, "AllNotIn", `["x"]`, Unmet, "found null"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			c := Condition{Key: []byte(test.key), Operator: test.operator, Value: []byte(test.value)}
			result := Evaluate(Conditions{All: []Condition{c}}, []byte(test.document), Environment{Now: time.Unix(0, 0)})
			if test.says == "" {
				expect(t, result, test.outcome)
			} else {
				expect(t, result, test.outcome, test.says)
			}
		})
	}
}

func TestEvaluateEndsAnyWithTheFirstConditionMet(t *testing.T) {
	good := Condition{Key: []byte(`"{{ a }}"`), Operator: "Equals", Value: []byte(`1`)}
	bad := Condition{Key: []byte(`"{{ absent }}"`), Operator: "Equals", Value: []byte(`1`)}
	for _, test := range []struct {
		any  []Condition
		want Outcome
	}{{[]Condition{good, bad}, Met}, {[]Condition{bad, good}, Invalid}} {
		expect(t, Evaluate(Conditions{Any: test.any}, []byte(`{"a":1}`), Environment{}), test.want)
	}
}
