package condition

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// worst is a condition, or a document, that was made to take long or to take much.
type worst struct {
	document string
	key      string // an expression
	operator string
	value    any
	outcome  Outcome
	says     string
}

// worstInputs are known, or were made up, each as far as it goes within the bounds on requests and documents.
func worstInputs() map[string]worst {
	stars := strings.Repeat("*", 30)
	a := strings.Repeat("a", 30)
	big := func(n int) string { return `{"text":"` + strings.Repeat("a", n) + `"}` }
	numbers := func(n int) string { return `{"list":[` + strings.Repeat("1,", n) + `1]}` }
	members := func(n int) string {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, `,"%d":"%040d"`, (i*7919)%n, i)
		}
		return "{" + text.String()[1:] + "}"
	}
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
	pem := "-----BEGIN CERTIFICATE-----\n" + base64.StdEncoding.EncodeToString(make([]byte, 64<<10)) + "\n-----END CERTIFICATE-----\n"
	const memory, work, arguments = "takes more memory", "takes more work", "arguments that are too large"
	return map[string]worst{
		"30 stars":                           {`{"text":"` + a + `"}`, "text", "Equals", stars + "b", Unmet, ""},
		"30 stars of the document":           {`{"text":"` + stars + `b"}`, "text", "AllNotIn", []string{a}, Met, ""},
		"30 stars in pattern_match":          {`{"text":"` + a + `"}`, "pattern_match('" + stars + "b', text)", "Equals", false, Met, ""},
		"many stars and a long text":         {big(1 << 20), "text", "Equals", "*" + strings.Repeat("a", 500) + "b", Invalid, work},
		"a list of stars and a long list":    {`{"list":[` + strings.Repeat(`"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",`, 25000) + `1]}`, "list", "AllNotIn", slices.Repeat([]string{"*a*a*a*a*a*a*ab"}, 1000), Invalid, work},
		"many texts and a long list":         {`{"list":[` + strings.Repeat(`"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",`, 25000) + `1]}`, "list", "AllNotIn", slices.Repeat([]string{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"}, 50000), Invalid, work},
		"random":                             {`{}`, "random('(a*)*')", "Equals", "x", Invalid, "random gives another text"},
		"to_string of 120 KB":                {`{"list":["` + strings.Repeat(`\u0000`, 20000) + `"]}`, "length(to_string([list,list,list,list,list,list,list,list]))", "Equals", 1, Unmet, ""},
		"to_string of a doubled list":        {`{"a":1}`, "to_string(element" + strings.Repeat("|[@,@]", 30) + ")", "Equals", 1, Invalid, memory},
		"22 flattenings":                     {`{"list":[1,2]}`, "list" + strings.Repeat("|[@,@][]", 22), "Equals", 1, Invalid, memory},
		"a multiple of lists":                {numbers(100000), "list[].[" + strings.Repeat("@,", 200) + "@][]", "Equals", 1, Invalid, memory},
		"a projection in a projection":       {numbers(30000), "list[?length(to_string([@,@,@])) > `9`]", "Equals", 1, Unmet, ""},
		"a filter in a filter over all":      {numbers(5000), "map(&length([" + strings.Repeat("@,", 900) + "@]), list)", "Equals", 1, Invalid, memory},
		"text doubled by join":               {`{"text":"ab"}`, "text" + strings.Repeat("|join(@,[@,@,@])", 40), "Equals", 1, Invalid, memory},
		"text doubled by replace_all":        {`{"text":"pp"}`, "text" + strings.Repeat("|replace_all(@,'p',@)", 40), "Equals", 1, Invalid, ""},
		"an empty text is replaced":          {big(1 << 20), "replace_all(text,'',text)", "Equals", 1, Invalid, arguments},
		"text doubled by regular expression": {`{"text":"pppppppp"}`, "text" + strings.Repeat("|regex_replace_all('(p)',@,'$1$1$1$1')", 40), "Equals", 1, Invalid, ""},
		"a regular expression that repeats":  {big(1000), "regex_match('((((a{100}){100}){100}){10})', text)", "Equals", 1, Invalid, ""},
		"one that repeats as it may":         {big(1 << 16), "regex_match('(a|b|c){1000}{2}x', text)", "Equals", 1, Invalid, ""},
		"one on a long text":                 {big(1 << 20), "regex_match('(.*)(.*)(.*)(.*)(.*)[^a]', text)", "Equals", 1, Invalid, arguments},
		"one of classes":                     {big(1000), "regex_match('" + strings.Repeat(`\pL`, 1300) + "', text)", "Equals", 1, Invalid, ""},
		"a long text is split":               {big(16 << 20), "split(text,'')", "Equals", 1, Invalid, arguments},
		"a text is split":                    {big(800_000), "split(text,'')", "Equals", 1, Invalid, memory},
		"a long text is encoded again":       {big(2 << 20), "text" + strings.Repeat("|base64_encode(@)", 30), "Equals", 1, Invalid, ""},
		"a long text is hashed":              {big(2 << 20), "map(&sha256($.text), [])", "Equals", 1, Invalid, "does not compile"},
		"texts are hashed":                   {big(2 << 20), "[" + strings.Repeat("md5(text),", 900) + "text]", "Equals", 1, Invalid, work},
		"a long text is in capitals":         {big(30 << 20), "to_upper(text)", "Equals", 1, Invalid, arguments},
		"a text is trimmed of many":          {big(1 << 20), "trim(text, text)", "Equals", 1, Invalid, arguments},
		"YAML of aliases":                    {encoded(map[string]any{"text": bomb}), "parse_yaml(text)", "Equals", 1, Invalid, "anchors or aliases"},
		"YAML that nests":                    {encoded(map[string]any{"text": strings.Repeat("- ", 30000)}), "parse_yaml(text)", "Equals", 1, Invalid, "exceeded max depth"},
		"much YAML":                          {encoded(map[string]any{"text": strings.Repeat("- a\n", 30000)}), "parse_yaml(text)", "Equals", 1, Invalid, "at most 65536 are read"},
		"JSON that nests":                    {encoded(map[string]any{"text": strings.Repeat("[", 1<<20)}), "parse_json(text)", "Equals", 1, Invalid, "nests lists and objects"},
		"JSON in JSON":                       {encoded(map[string]any{"text": "[" + strings.Repeat(`{"":0},`, 100000) + "0]"}), "parse_json(text)", "Equals", 1, Invalid, memory},
		"a key of 500,000 bits":              {encoded(map[string]any{"text": pem}), "x509_decode(text)", "Equals", 1, Invalid, "at most 32768 are read"},
		"sort of equal beginnings":           {`{"list":[` + strings.Repeat(`"`+strings.Repeat("a", 20000)+`b","`+strings.Repeat("a", 20000)+`",`, 200) + `"a"]}`, "length(sort([list,list,list,list,list,list,list,list][]))", "Equals", 1, Unmet, ""},
		"sort_by of nested expressions":      {numbers(100000), "sort_by(list, &length(to_string([@,@,@])))[0]", "Equals", 1, Invalid, memory},
		"items of items":                     {numbers(30000), "items(items(items(list,'a','b'),'a','b'),'a','b')", "Equals", 1, Invalid, memory},
		"an object of many":                  {numbers(200000), "object_from_lists(list,list)", "AnyIn", []int{1}, Invalid, memory},
		"a version of many ranges":           {`{}`, "semver_compare('1.0.0', '" + strings.Repeat("1.x||", 1000) + "1.x')", "Equals", 1, Invalid, "at most 4096 are read"},
		"a quantity of a billion digits":     {`{"n":"1e999999999"}`, "n", "GreaterThan", "1", Invalid, "out of range"},
		"a small quantity of as many":        {`{"n":"1e-999999999"}`, "n", "Equals", "1", Invalid, "out of range"},
		"a quantity in add":                  {`{"n":"1e-99999999"}`, "add(n, '1')", "Equals", "1", Invalid, "out of range"},
		"an exponent without a number":       {`{"n":"e999999999"}`, "divide(n, `3`)", "Equals", "1", Invalid, "invalid operand"},
		"one with a point for its number":    {`{"n":".e999999999"}`, "divide(n, `3`)", "Equals", "1", Invalid, "out of range"},
		"one in a sum":                       {`{"n":"-E999999999"}`, "sum([n, n])", "Equals", "1", Invalid, "invalid operand"},
		"a long number":                      {`{"n":"` + strings.Repeat("9", 1<<20) + `"}`, "n", "Equals", "1", Invalid, "out of range"},
		"a long number with a unit":          {`{"n":"` + strings.Repeat("9", 1<<20) + `Ki"}`, "add(n, n)", "Equals", "1", Invalid, "computes with a text"},
		"contains of long equal texts":       {`{"a":"` + strings.Repeat("a", 1<<19) + `b","b":"` + strings.Repeat("a", 1<<19) + `c","list":[` + strings.Repeat("1,", 9999) + `1]}`, "length(list[?contains([$a], 'x')] || list)", "Equals", 1, Invalid, ""},
		"equal texts for each element":       {`{"list":[` + strings.Repeat(`["`+strings.Repeat("a", 10000)+`","`+strings.Repeat("a", 10000)+`"],`, 100) + `1]}`, "[list,list,list,list,list,list,list,list,list,list,list,list,list,list,list,list][][?[0]==[1]]|length(@)", "Equals", 1, Unmet, ""},
		"many small objects":                 {"[" + strings.Repeat(`{"":0},`, 1<<20) + "0]", "element[0]", "Equals", 1, DocumentInvalid, "more values than a document of its size may have"},
		"many empty objects":                 {"[" + strings.Repeat(`{},`, 10<<20) + "0]", "element[0]", "Equals", 1, DocumentInvalid, "more values than a document of its size may have"},
		"many empty lists":                   {"[" + strings.Repeat(`[],`, 10<<20) + "0]", "element[0]", "Equals", 1, DocumentInvalid, "more values than a document of its size may have"},
		"many numbers":                       {"[" + strings.Repeat(`1,`, 16<<20) + "0]", "element[0]", "Equals", 1, DocumentInvalid, "more values than a document of its size may have"},
		"an object of many members":          {members(500_000), "element", "Equals", 1, Unmet, `found {"0":"000`},
		"the names of many members":          {members(500_000), "keys(element)", "AnyIn", []string{"499999"}, Met, ""},
		"a pattern for each of many":         {numbers(50000), "list[?regex_match('^(a|b)*c$', to_string(@))]", "Equals", 1, Unmet, "found []"},
		"texts with many expressions":        {big(9000), strings.Repeat("text }} {{ ", 99) + "text", "Equals", 1, Unmet, ""},
		"a document of space":                {strings.Repeat(" ", 32<<20), "element", "Equals", 1, DocumentInvalid, "unexpected end"},
		"an unfinished text":                 {`"` + strings.Repeat("a", 32<<20), "element", "Equals", 1, DocumentInvalid, "unexpected end"},
		"a text of escapes":                  {`"` + strings.Repeat(`\u0041`, 5<<20) + `"`, "element", "Equals", 1, DocumentInvalid, "text with escapes"},
		"a document that nests":              {strings.Repeat("[", 32<<20), "element", "Equals", 1, DocumentInvalid, "over a depth of 1000"},
		"a hundred expressions":              {numbers(10000), strings.Repeat("x }}{{ ", 100), "Equals", 1, Invalid, ""},
		"a list of a text's copies":          {big(1 << 20), "[" + strings.Repeat("text,", 900) + "text]", "AllNotIn", []string{"x"}, Invalid, work},
		"a long text in a long list":         {big(1 << 20), "text", "AnyIn", "{{ [" + strings.Repeat("text,", 900) + "element] }}", Met, ""},
		"a range of digits":                  {`{"n":"5"}`, "n", "AnyIn", strings.Repeat("1", 50000) + "-" + strings.Repeat("9", 50000), Invalid, "at most 1000 are read"},
		"a list in a text":                   {encoded(map[string]any{"text": "[" + strings.Repeat(`"a",`, 200000) + `"a"]`}), "text", "AnyIn", "{{ text }}", Met, ""},
	}
}

func (w worst) evaluate(ended func() bool) Result {
	value, err := json.Marshal(w.value)
	if err != nil {
		panic(err)
	}
	c := Condition{Key: []byte(encoded("{{ " + w.key + " }}")), Operator: w.operator, Value: value}
	return Evaluate(Conditions{All: []Condition{c}}, []byte(w.document), Environment{Now: time.Unix(0, 0), Ended: ended})
}

func TestEvaluateEndsWorstCasesWithinItsBudget(t *testing.T) {
	for sentence, w := range worstInputs() {
		t.Run(sentence, func(t *testing.T) {
			asked := 0
			result := w.evaluate(func() bool { asked++; return false })
			if result.Outcome != w.outcome || !strings.Contains(result.Reason, w.says) {
				t.Errorf("outcome %d, want %d: %s", result.Outcome, w.outcome, reason.Clip(result.Reason, 500))
			}
			given := newBudget(len(w.document), nil)
			if result.Steps > given.steps || result.Bytes > given.bytes || len(result.Reason) > maxReason+3 {
				t.Errorf("%d of %d steps, %d of %d bytes, a reason of %d bytes", result.Steps, given.steps, result.Bytes, given.bytes, len(result.Reason))
			}
			if result.Steps > 2*lookAt+maxCall && asked < result.Steps/maxCall {
				t.Errorf("the end was asked for %d times in %d steps", asked, result.Steps)
			}
			if asked == 0 {
				return
			}
			ended := w.evaluate(func() bool { return true })
			if ended.Outcome != Ended || !strings.Contains(ended.Reason, "time ran out") || ended.Steps > lookAt+maxCall+maxCall/8 {
				t.Errorf("outcome %d after %d steps: %s", ended.Outcome, ended.Steps, reason.Clip(ended.Reason, 200))
			}
		})
	}
}

// BenchmarkWorstConditions prints the time and the memory of each.
func BenchmarkWorstConditions(b *testing.B) {
	for sentence, w := range worstInputs() {
		b.Run(sentence, func(b *testing.B) {
			b.ReportAllocs()
			var result Result
			for b.Loop() {
				result = w.evaluate(nil)
			}
			b.ReportMetric(float64(result.Steps)/1e6, "Msteps")
			b.ReportMetric(float64(result.Bytes)/1e6, "MBpaid")
		})
	}
}

func TestEvaluateTakesTheLargestDocument(t *testing.T) {
	var text strings.Builder
	text.WriteString(`{"components":[`)
	for i := 0; text.Len() < 32<<20-400; i++ {
		fmt.Fprintf(&text, `{"type":"library","name":"package-%d","version":"1.2.%d","purl":"pkg:golang/example.com/package-%d@1.2.3","licenses":[{"license":{"id":"Apache-2.0"}}],"properties":[{"name":"path","value":"/go.mod"}]},`, i, i, i)
	}
	text.WriteString(`{}]}`)
	var conditions Conditions
	for _, expression := range []string{"components[].licenses[].license.id", "components[].licenses[].expression", "components[?starts_with(name || '', 'evil')].name", "sort(components[].version)[:3]"} {
		conditions.All = append(conditions.All, Condition{Key: []byte(encoded("{{ " + expression + " }}")), Operator: "AllNotIn", Value: []byte(`["GPL-*", "* GPL-*", "*(GPL-*", "AGPL-*", "* AGPL-*", "*(AGPL-*"]`)})
	}
	result := Evaluate(conditions, []byte(text.String()), Environment{})
	expect(t, result, Met)
	t.Logf("%d bytes: %d steps and %d bytes", text.Len(), result.Steps, result.Bytes)
}
