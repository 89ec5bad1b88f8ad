package condition

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestEvaluateDecodesDocuments(t *testing.T) {
	tests := map[string]struct {
		document string
		want     any
		refused  string // part of the error; "" where it is read
	}{
		"a byte order mark is passed over":       {"\xEF\xBB\xBF{\"a\":1}", map[string]any{"a": 1.0}, ""},
		"but only one":                           {"\xEF\xBB\xBF\xEF\xBB\xBF1", nil, "invalid character"},
		"and not after white space":              {" \xEF\xBB\xBF1", nil, "invalid character"},
		"UTF-16 is not JSON":                     {"\xFF\xFE{\x00}\x00", nil, "invalid character"},
		"a name twice":                           {`{"licence":"GPL","licence":"MIT"}`, nil, `names "licence" twice; attach a document that names it once`},
		"a name twice in different writing":      {`{"licence":"GPL","\u006cicence":"MIT"}`, nil, `names "licence" twice; attach a document that names it once`},
		"a name twice in two objects":            {`[{"a":1},{"a":2}]`, []any{map[string]any{"a": 1.0}, map[string]any{"a": 2.0}}, ""},
		"a name in other capitals":               {`{"a":1,"A":2}`, map[string]any{"a": 1.0, "A": 2.0}, ""},
		"bytes that are not UTF-8":               {"\"G\xffPL\"", nil, "not UTF-8"},
		"nor in a name":                          {"{\"\xc3\x28\":1}", nil, "not UTF-8"},
		"nor beside an escape":                   {"\"\\n\xff\"", nil, "not UTF-8"},
		"half a surrogate":                       {`"\ud800"`, "\uFFFD", ""},
		"the replacement character":              {"\"\uFFFD\"", "\uFFFD", ""},
		"NaN":                                    {`{"n":NaN}`, nil, "looking for beginning of value"},
		"infinity":                               {`-Infinity`, nil, "in numeric literal"},
		"a number out of range":                  {`1e999`, nil, "out of range"},
		"a number that is very small":            {`1e-999`, 0.0, ""},
		"a number of very many digits":           {strings.Repeat("1", 2000), nil, "2000 characters"},
		"a number with a zero before":            {`01`, nil, "after the value"},
		"a number with a plus":                   {`+1`, nil, "looking for beginning of value"},
		"a whole number beyond what floats tell": {`9007199254740993`, 9007199254740992.0, ""},
		"a comma at the end":                     {`[1,]`, nil, "looking for beginning of value"},
		"a comma at the end of an object":        {`{"a":1,}`, nil, "key string"},
		"a comment":                              {`{} // none`, nil, "after the value"},
		"two documents":                          {`{} {}`, nil, "after the value"},
		"nothing":                                {``, nil, "unexpected end"},
		"a tab in a text":                        {"\"\t\"", nil, "in string literal"},
		"an escape that is none":                 {`"\x"`, nil, "invalid character"},
		"a text that does not end":               {`"a\"`, nil, "unexpected end"},
		"as deep as may be":                      {strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth), nested(maxDepth), ""},
		"too deep":                               {strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1), nil, "over a depth of 1000"},
		"a list that ends as an object":          {`[1}`, nil, "after a list's element"},
		"texts and names are whole":              {`{"a\\\"b":"c\/d\né"}`, map[string]any{`a\"b`: "c/d\né"}, ""},
		"white space around all":                 {" \n[ 1 ,\ttrue , false,null , {} ,[ ] ]\r ", []any{1.0, true, false, nil, map[string]any{}, []any{}}, ""},
		"a list after many lists keeps its own":  {`[[1,2],[3],[[4],5]]`, []any{[]any{1.0, 2.0}, []any{3.0}, []any{[]any{4.0}, 5.0}}, ""},
		"an object after objects keeps its own":  {`{"a":{"b":1,"c":[{"d":2}]},"e":3}`, map[string]any{"a": map[string]any{"b": 1.0, "c": []any{map[string]any{"d": 2.0}}}, "e": 3.0}, ""},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			got, err := decodeDocument([]byte(test.document), newBudget(len(test.document), nil))
			switch {
			case test.refused == "" && (err != nil || !reflect.DeepEqual(got, test.want)):
				t.Errorf("got %v, %v; want %v", got, err, test.want)
			case test.refused != "" && (err == nil || !strings.Contains(err.Error(), test.refused)):
				t.Errorf("got %v, %v; want an error with %s", got, err, test.refused)
			}
		})
	}
}

func nested(depth int) any {
	value := []any{}
	for range depth - 1 {
		value = []any{value}
	}
	return value
}

// FuzzDecode holds the decoder against the standard library's, which reads more than it.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-0.5e3,"\u00e9\ud83d\ude00"],"b":{"c":null}}`, `[[],{}," ",true,false]`, `"\\"`, ` 1 `, `{"a":1,"a":2}`, "\"\xff\"", `[1,2`, `1e400`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decode(data, newBudget(len(data), nil))
		var want any
		theirs := json.Unmarshal(data, &want)
		if err == nil && (theirs != nil || !reflect.DeepEqual(got, want)) {
			t.Fatalf("%q is %v, and by the standard library %v, %v", data, got, want, theirs)
		}
		if _, syntax := err.(errSyntax); syntax && theirs == nil {
			t.Fatalf("%q is not JSON (%v), and by the standard library it is %v", data, err, want)
		}
	})
}
