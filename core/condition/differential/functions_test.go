package differential

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math"
	"math/big"
	random "math/rand/v2"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kyverno/kyverno/pkg/config"
	"github.com/kyverno/kyverno/pkg/engine/jmespath"

	"github.com/nirmata/kyverno-notation-venafi/core/condition"
)

// onPurpose are the functions that are another's here, which the package's documentation says.
var onPurpose = []string{"random", "is_external_url", "time_now", "time_now_utc"}

// TestFunctionsAgreeWithKyverno holds generated calls of each of Kyverno's functions against Kyverno: their values, the kinds of
// those, and the texts of their errors.
func TestFunctionsAgreeWithKyverno(t *testing.T) {
	k := oracle{jmespath.New(config.NewDefaultConfiguration(false))}
	c := newCalls(t)
	for _, entry := range jmespath.GetFunctions(config.NewDefaultConfiguration(false)) {
		if c.parameters[entry.Name] == nil && !slices.Contains(onPurpose, entry.Name) {
			t.Errorf("no arguments are made for the function %s", entry.Name)
		}
	}
	names := slices.Sorted(maps.Keys(c.parameters))
	wrong, differences := 0, map[string]int{}
	for i := range *cases {
		name := names[i%len(names)]
		c.arguments = nil
		expression := c.call(name, 0)
		theirs, err := k.search(expression, c.arguments)
		result := c.here(t, expression, theirs, err)
		problem, difference := compared(expression, result, theirs, err)
		if strings.Contains(result.Reason, "invalid operand") && problem != "" && (strings.Count(expression, "(") > 1 || slices.ContainsFunc(c.arguments, unitAlone)) {
			problem, difference = "", "a unit without a number"
		}
		if difference != "" {
			differences[difference]++
		}
		if problem != "" {
			if wrong++; wrong <= 20 {
				t.Errorf("call %d, %s: %s\narguments %.1000s", i, expression, problem, encoded(c.arguments))
			}
			continue
		}
		c.seen[fmt.Sprintf("%s: error %t", name, err != nil)]++
	}
	if wrong > 0 {
		t.Errorf("%d of %d calls differ", wrong, *cases)
	}
	t.Logf("differences on purpose: %v", differences)
	c.reached(t, names)
}

// calls makes calls of functions with arguments, which stand in a list of the document.
type calls struct {
	*generator
	parameters map[string][]func() any
	arguments  []any
	seen       map[string]int
}

func newCalls(t *testing.T) *calls {
	t.Helper()
	return &calls{generator: &generator{Rand: random.New(random.NewPCG(*seed, 7))}, parameters: parameters(newPool(t)), seen: map[string]int{}}
}

// condition is a condition on what a function gives, with the document that has its arguments.
func (c *calls) condition() ([]byte, condition.Condition) {
	c.arguments = nil
	expression := c.call(pick(c.generator, slices.Sorted(maps.Keys(c.parameters))...), 0)
	suiting := pick(c.generator, slices.Sorted(maps.Keys(c.parameters))...)
	value := pick(c.generator, c.value, c.scalar, c.span, pick(c.generator, c.parameters[suiting]...))()
	if c.often(30) {
		value = c.wrap(c.call(pick(c.generator, slices.Sorted(maps.Keys(c.parameters))...), 1))
	}
	document := encoded(map[string]any{"a": c.arguments, "word": c.word(), "number": c.number(), "words": c.list(c.word)})
	return []byte(document), condition.Condition{Key: []byte(encoded(c.wrap(expression))), Operator: pick(c.generator, condition.Operators()...), Value: []byte(encoded(value))}
}

// call writes a call of which most arguments suit the function.
func (c *calls) call(name string, depth int) string {
	var written []string
	for i, suiting := range c.parameters[name] {
		argument := suiting
		switch {
		case depth < 2 && c.often(12):
			written = append(written, c.call(pick(c.generator, slices.Sorted(maps.Keys(c.parameters))...), depth+1))
			continue
		case c.often(1):
			written = append(written, "&a[0]")
			continue
		case c.often(12):
			argument = func() any { return pick(c.generator, c.kinds()...)() }
		case c.often(6):
			other := c.parameters[pick(c.generator, slices.Sorted(maps.Keys(c.parameters))...)]
			if len(other) > 0 {
				argument = pick(c.generator, other...)
			}
		}
		value := argument()
		c.seen[fmt.Sprintf("%s: argument %d is %s", name, i, kindOf(value))]++
		written = append(written, fmt.Sprintf("a[%d]", len(c.arguments)))
		c.arguments = append(c.arguments, value)
	}
	if c.often(1) {
		written = append(written, "a[0]")
	}
	return name + "(" + strings.Join(written, ", ") + ")"
}

// kinds has a value of every kind.
func (c *calls) kinds() []func() any {
	return []func() any{c.word, c.number, func() any { return c.often(50) }, func() any { return nil }, func() any { return c.list(c.scalar) },
		func() any { return map[string]any{"word": c.word(), "MIT": c.number()} }, c.duration, c.quantity, c.instant}
}

func kindOf(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case string:
		return "text"
	case bool:
		return "boolean"
	case []any:
		return "list"
	case map[string]any:
		return "object"
	}
	return "number"
}

// search is what Kyverno makes of an expression on a document with arguments, as JSON has it.
func (k oracle) search(expression string, arguments []any) (value any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicked{fmt.Sprint(r)}
		}
	}()
	var document any
	if err := json.Unmarshal([]byte(encoded(map[string]any{"a": arguments})), &document); err != nil {
		return nil, panicked{err.Error()}
	}
	if value, err = k.functions.Search(expression, document); err != nil {
		return nil, err
	}
	if text, ok := value.(string); ok {
		return text, nil
	}
	written, err := json.Marshal(value)
	if err != nil {
		return nil, notJSON{err}
	}
	value = nil
	return value, json.Unmarshal(written, &value)
}

type panicked struct{ text string }

func (p panicked) Error() string { return p.text }

type notJSON struct{ error }

// here evaluates whether the expression gives the value that Kyverno's does. That of a text is compared in base64, since it may
// be none in UTF-8.
func (c *calls) here(t *testing.T, expression string, want any, err error) condition.Result {
	t.Helper()
	key := "{{ (" + expression + ") == want }}"
	if text, ok := want.(string); ok && err == nil {
		key, want = "{{ base64_encode("+expression+") == want }}", base64.StdEncoding.EncodeToString([]byte(text))
	}
	document := encoded(map[string]any{"a": c.arguments, "want": want})
	one := condition.Condition{Key: []byte(encoded(key)), Operator: "Equals", Value: []byte("true")}
	return condition.Evaluate(condition.Conditions{All: []condition.Condition{one}}, []byte(document), condition.Environment{Now: time.Now()})
}

// compared tells in what two outcomes differ, or the difference on purpose that explains it.
func compared(expression string, result condition.Result, theirs any, err error) (problem, difference string) {
	if result.Outcome == condition.Invalid {
		if refused := refusals.FindString(result.Reason); refused != "" {
			return "", refused
		}
	}
	_, isPanic := err.(panicked)
	_, isNotJSON := err.(notJSON)
	switch {
	case result.TimeDependent:
		return "", "the clock"
	case err == nil && result.Outcome == condition.Met:
		return "", ""
	case err == nil && strings.Contains(encoded(theirs), "\ufffd"):
		return "", "bytes that are not UTF-8"
	case err == nil && result.Outcome == condition.Unmet && inside(expression, "compare("):
		return "", "compare gives a number"
	case err == nil:
		return fmt.Sprintf("outcome %d (%s), and Kyverno gives %s", result.Outcome, result.Reason, encoded(theirs)), ""
	case result.Outcome != condition.Invalid && inside(expression, "compare("):
		return "", "compare gives a number"
	case result.Outcome != condition.Invalid && inside(expression, "items("):
		return "", "items gives a list"
	case result.Outcome != condition.Invalid:
		return fmt.Sprintf("outcome %d (%s), and Kyverno says %v", result.Outcome, result.Reason, err), ""
	case isPanic, isNotJSON, says(result.Reason, err.Error()):
		return "", ""
	case strings.Contains(expression, "&"), inside(expression, "compare("), inside(expression, "items("):
		return "", "another error first"
	}
	return fmt.Sprintf("it is told %q, and Kyverno says %q", result.Reason, err), ""
}

// inside tells whether a function is called for an argument of another.
func inside(expression, call string) bool { return strings.LastIndex(expression, call) > 0 }

// refusals are what only this side gives.
var refusals = regexp.MustCompile(`no finite number|quantity \S+ is out of range|digits is out of range|duration that is out of range|computes with a text of|bytes of text; at most|arguments that are too large|anchors or aliases|reads JSON that is refused`)

// says tells whether a reason has the text of Kyverno's error, or what stands for it.
func says(reason, theirs string) bool {
	own := []struct{ theirs, ours string }{
		{"nvalid type for", "gives a function"}, {"invalid character", "fails: "}, {"unexpected end of JSON", "fails: "}, {"cannot unmarshal", "fails: "},
		{"JMESPath function 'image_normalize'", "is no image reference"}, {"%!d(BADINDEX)", "round"}, {"%!d(MISSING)", "round"},
	}
	for _, text := range own {
		if strings.Contains(theirs, text.theirs) {
			return strings.Contains(reason, text.ours)
		}
	}
	if _, regex, ok := strings.Cut(theirs, "error parsing regexp"); ok {
		theirs = "error parsing regexp" + regex
	}
	n := 0
	for i := range theirs { // bytes that are no character stay as they are
		if n++; n > 200 {
			theirs = theirs[:i]
			break
		}
	}
	return strings.Contains(reason, theirs)
}

// reached demands that every function gave values and errors, and took every kind of value for every argument.
func (c *calls) reached(t *testing.T, names []string) {
	t.Helper()
	for _, name := range names {
		for _, failed := range []bool{false, true} {
			if n := c.seen[fmt.Sprintf("%s: error %t", name, failed)]; n < leastOfEach {
				t.Errorf("%s was called %d times with the same outcome, error %t; want at least %d", name, n, failed, leastOfEach)
			}
		}
		for i := range c.parameters[name] {
			for _, kind := range []string{"null", "text", "boolean", "list", "object", "number"} {
				if c.seen[fmt.Sprintf("%s: argument %d is %s", name, i, kind)] == 0 {
					t.Errorf("argument %d of %s was never a %s", i, name, kind)
				}
			}
		}
	}
}

// pool has what arguments are taken from.
type pool struct{ certificates []any }

// of gives one of some values.
func of(g *random.Rand, values ...any) func() any {
	return func() any { return values[g.IntN(len(values))] }
}

// parameters are the arguments that suit each function, with those at the edge of what it takes.
func parameters(p pool) map[string][]func() any {
	g := random.New(random.NewPCG(*seed, 11))
	from := func(values ...any) func() any { return of(g, values...) }
	made := func() any {
		letters := []rune("aaAbBß1 -.üÜ日ſ\n\t")
		text := make([]rune, g.IntN(12))
		for i := range text {
			text[i] = letters[g.IntN(len(letters))]
		}
		return string(text)
	}
	either := func(pools ...func() any) func() any { return func() any { return pools[g.IntN(len(pools))]() } }
	text := either(made, from("", "a", "MIT", "mit", "GPL-3.0-only", "  a b ", "ünïcode", "ÜNÏCODE", "日本語", "line\nbreak", "ſ", "K", "aaaa", "1", "true", "-", "e\u0301", strings.Repeat("long ", 60)))
	part := from("", "a", "aa", "-", "M", " ", "ü", "T", "long", "語", "\n", "G", "b ", "0")
	many := from(0, 1, 2, 3, -1, 1.5, 2.9, -0.5, 100, 1e9)
	number := either(func() any { return g.IntN(2000) - 1000 }, func() any { return g.NormFloat64() * math.Pow(10, float64(g.IntN(44)-22)) }, func() any { return math.Round(g.NormFloat64()*1e6) / 1e3 }, from(0, 1, -1, 2, 3, 7, 10, -10, 2.5, -2.5, 0.1, 1e-9, 1e-300, 1e21, 1e300, -1e21, 9007199254740993, 9.3e18, -9223372036854775808, 1e308, 123456.789, 5e-324))
	units := []string{"", "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "E2", "e-3", "e12", "E-9"}
	unit := func() string { return units[g.IntN(len(units))] }
	amount := either(func() any { return fmt.Sprintf("%d%s", g.IntN(5000)-500, unit()) }, func() any { return fmt.Sprintf("%.*f%s", g.IntN(12), g.NormFloat64()*100, unit()) }, from("1", "0", "-1", "1Gi", "512Mi", "1024Mi", "1G", "100m", "0.1", "2Ki", "1.5Gi", "-1Gi", "10", "3", "1e3", "1E3", "1E", "1n", "1u", "0.000000001", "0.0000000001", "12345678901234567890", "1.5", "7", "1Ei",
		"+1", ".5", "5.", "1e-9", "1m", "1P", "100Ki", "9223372036854775807", "9223372036854775808", "1e18", "0Gi", ""))
	span := either(func() any { return time.Duration(g.NormFloat64() * math.Pow(10, float64(g.IntN(20)))).String() }, func() any { return time.Duration(g.IntN(1000) * int(time.Second)).String() }, from("0s", "30s", "60s", "1h", "1h0m0s", "90m", "24h", "-1h", "1ms", "1.5h", "1us", "1µs", "100ns", "1h1", "h", "2562047h47m16s", "-2562047h", "0", "1m0s", "7s", "300s", "1d", "+5s", ".5s", ""))
	operand := either(number, number, amount, amount, span, span, text)
	at := func() any {
		return time.Unix(g.Int64N(4e9)-1e9, g.Int64N(3)*g.Int64N(1e9)).In(time.FixedZone("", (g.IntN(97)-48)*900*g.IntN(2))).Format(time.RFC3339Nano)
	}
	instant := either(at, at, from("2024-01-02T03:04:05Z", "2031-01-02T03:04:05Z", "2027-01-02T03:04:05Z"), from("2024-01-02T03:04:05Z", "2031-01-02T03:04:05Z", "2024-01-02T04:04:05+01:00", "2024-02-29T23:59:59.999999999Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1969-12-31T23:59:59Z", "2024-01-02T03:04:05-12:30",
		"2024-01-02", "", "2024-13-01T00:00:00Z", "2023-02-29T00:00:00Z", "2024-01-02t03:04:05z", "2024-01-02T03:04:05", "1704164645", "Mon, 02 Jan 2006 15:04:05 MST", "x"+strings.Repeat("y", 250)))
	layout := from("", "2006-01-02T15:04:05Z07:00", "2006-01-02", "Mon, 02 Jan 2006 15:04:05 MST", "0", "1704164645", "-1", "15:04", "x", "3:04PM", "2006-01-02T15:04:05.999999999Z07:00", "Jan _2 2006")
	moment := either(instant, from("2024-01-02", "Tue, 02 Jan 2024 03:04:05 UTC", "1704164645", "-1", "0", "99999999999999", "9223372036854775808", "03:04", "4:05PM", "Jan  2 2024", "x", "1.5"))
	regex := from("", "a", "[0-9]+", "^GPL", "(a)(b)?", "(?i)mit", "(", "a{2,1}", "[z-a]", ".*", "^$", `\d`, "(?P<n>M)IT", "x*", "ü", `\pL`, "(?s).", "*", `\`, "^(a|b)*$", "[[:alpha:]]", "(?<n>a)")
	replacement := from("", "x", "$1", "${1}y", "$n", "$$", "$0$0", "${n}", "$", "$1x", 1, 2.5, 1e21, "語")
	mixed := either(text, text, number)
	wild := from("", "*", "?", "M*", "*T", "GPL-*", "a?", "**", "ü*", "日?語", "1*", "-?*", "*.5", "long*")
	object := from(map[string]any{}, map[string]any{"a": "b"}, map[string]any{"a": "b", "c": 1}, map[string]any{"a": []any{1}, "é": nil}, map[string]any{"k": "v", "v": "k", "a": map[string]any{"a": "b"}}, map[string]any{"1": 1, "": "empty", "a": "b", "c": 1})
	list := from([]any{}, []any{"a"}, []any{"a", "b", "a"}, []any{1, 2, 3}, []any{nil, true}, []any{"a", 1, 2.5, false}, []any{[]any{}}, []any{1e21, 0.1, 123456789}, []any{map[string]any{"a": 1}, "b"}, []any{"1Gi", "1Mi"}, []any{"1h", "30s", "1m0s"})
	name := from("k", "v", "a", "", "é", "c", "1")
	encodedText := from("", "TUlU", "TUlU\n", "TUl", "TUlU=", "TQ==", "TQ", "////", "__--", "w7w=", "/w==", "a", "ü", "T Q = =", "gICA", strings.Repeat("QUFB", 80), "====")
	version := from("1.2.3", "1.2.4", "2.0.0", "0.9.0", "v1.2.3", "1.2.3-rc.1", "1.2.3+build", "1.2", "", "01.2.3", "1.2.3-01", "0.0.0", "999999999999999999999.0.0", "x", "1.2.3-")
	versions := from(">=1.2.3", "<2.0.0", "1.2.3", "!=1.2.3", ">1.0.0 <2.0.0", "<1.0.0 || >=2.0.0", "1.2.x", ">=1.x", "", "x", ">=1.2", "=>1", "== 1.2.3", ">= 1.2.3", "<2", "!1.2.3", "1.2.3 ||", "||", ">=1.2.3-rc.1", "~1.2", "*")
	path := from("", "/", ".", "..", "a//b", "/a/../b", "../a", "/../a", "a/./b/", "//a", "a\\b", "./", "ü//é", "///", "a/b/../../..")
	image := from("nginx", "nginx:v1", "ghcr.io/acme/app", "ghcr.io/acme/app:v1@sha256:"+strings.Repeat("0", 64), "localhost/x", "a/b", "A/b", "reg:5000/x", "docker.io/nginx", "docker.io/library/nginx", "", ":", "Nginx", "nginx:", "nginx@sha256:0",
		"reg/x:y:z", "my_reg/x", "my_reg.example/x:1", "a//b", "/x", "[::1]:5000/x", "index.docker.io/x", "x@sha512:"+strings.Repeat("a", 128), strings.Repeat("a", 300), "localhost", "sha256:"+strings.Repeat("0", 64), strings.Repeat("0", 64), " nginx")
	js := from("", "1", "null", "true", `"a"`, `{"a":[1,2.5,null]}`, "[1,", "{}", "[]", " 1 ", "01", "1e400", `"\ud800"`, "nul", `{"a":1,}`, "1 2", "-", `"`+"\t"+`"`, `[1e21,"é"]`, "\ufeff1", "'a'")
	yaml := from("", "a: 1", "a: [1, 2.5, x]", "- a\n- b", "1", "a", "true", "yes", "~", "null", "a: 0x10", "a: 010", "a: 1e3", "a: 2024-01-02", "a: 'x", "\tx", "a: b: c", "1: a", "true: a", "a:\n  b:\n   - c: d", "a: |\n  x\n  y", "--- 1\n--- 2", "a: .inf", "a: .nan",
		"a: ~\nb:", "? [a]\n: b", "a: !!str 1", "a: !!binary TQ==", "a: 12345678901234567890", "2.5: x", "{a: 1, b: [2]}", "a: 1\na: 2", "x: on", "# only", "a: \"\\u00e9\"", "<<: {a: 1}", "a: 1_000", "@a", "%x", "a: !x y", "null: x")
	certificate := from(p.certificates...)
	hash := either(text, encodedText, yaml)
	collection := either(object, list)
	key := either(name, many, number)
	names := either(list, list, from([]any{"a", "b"}, []any{"a", "é", "", "a"}))
	operands := func() any {
		kind := []func() any{number, amount, span, operand}[g.IntN(4)]
		values := make([]any, g.IntN(5))
		for i := range values {
			values[i] = kind()
		}
		return values
	}
	boolean := from("true", "false", "True", "FALSE", "tRuE", "", "yes", " true", "1", "t", "ＴＲＵＥ", "ſ", strings.Repeat("x", 300))
	integer := either(operand, func() any { return g.IntN(40) - 20 }, func() any { return fmt.Sprint(g.IntN(40) - 20) }, span)
	return map[string][]func() any{
		"compare": {text, text}, "equal_fold": {text, text}, "replace": {text, part, part, many}, "replace_all": {text, part, part},
		"to_upper": {text}, "to_lower": {text}, "trim": {text, part}, "trim_prefix": {text, part}, "split": {text, part}, "truncate": {text, many}, "to_boolean": {boolean},
		"regex_replace_all": {regex, mixed, replacement}, "regex_replace_all_literal": {regex, mixed, replacement}, "regex_match": {regex, mixed}, "pattern_match": {wild, mixed},
		"label_match": {object, object}, "lookup": {collection, key}, "items": {collection, name, name}, "object_from_lists": {names, names},
		"add": {operand, operand}, "subtract": {operand, operand}, "multiply": {operand, operand}, "divide": {operand, operand}, "modulo": {integer, integer}, "sum": {operands}, "round": {number, many},
		"base64_decode": {encodedText}, "base64_encode": {hash}, "sha256": {hash}, "sha1": {hash}, "md5": {hash}, "parse_json": {js}, "parse_yaml": {yaml}, "x509_decode": {certificate},
		"path_canonicalize": {path}, "semver_compare": {version, versions}, "image_normalize": {image},
		"time_since": {either(from(""), layout), moment, moment}, "time_to_cron": {instant}, "time_add": {instant, span}, "time_parse": {layout, moment}, "time_utc": {instant}, "time_diff": {instant, instant},
		"time_before": {instant, instant}, "time_after": {instant, instant}, "time_between": {instant, instant, instant}, "time_truncate": {instant, span},
	}
}

// newPool makes certificates and requests for them, and what is none.
func newPool(t *testing.T) pool {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	subject := pkix.Name{CommonName: "acme", Organization: []string{"Acme", "Ünïcode"}, Country: []string{"DE"}}
	serial := new(big.Int).Lsh(big.NewInt(5), 150)
	template := &x509.Certificate{SerialNumber: serial, Subject: subject, NotBefore: time.Unix(1700000000, 0), NotAfter: time.Unix(1900000000, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, DNSNames: []string{"acme.example"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}, URIs: []*url.URL{{Scheme: "https", Host: "acme.example", Path: "/x"}},
		EmailAddresses: []string{"a@acme.example"}, OCSPServer: []string{"http://ocsp.example"}, CRLDistributionPoints: []string{"http://crl.example"}, PermittedDNSDomains: []string{".example"}, SubjectKeyId: []byte{1, 2}}
	request := &x509.CertificateRequest{Subject: subject, DNSNames: template.DNSNames, URIs: template.URIs, IPAddresses: template.IPAddresses}
	plain := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "plain"}, NotAfter: time.Unix(1900000000, 0)}
	made := func(kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	certificate := func(template *x509.Certificate, public, private any) []byte {
		der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	csr, csrErr := x509.CreateCertificateRequest(rand.Reader, request, key)
	ecCSR, ecErr := x509.CreateCertificateRequest(rand.Reader, request, other)
	large := rsa.PublicKey{N: key.N, E: 1<<31 + 11}
	der := certificate(template, &key.PublicKey, key)
	good := made("CERTIFICATE", der, nil)
	return pool{[]any{
		good, made("CERTIFICATE", certificate(plain, &key.PublicKey, key), nil), made("CERTIFICATE REQUEST", csr, csrErr), "text before\n" + good + "text after", good + good,
		made("CERTIFICATE", certificate(plain, &other.PublicKey, other), nil), made("CERTIFICATE REQUEST", ecCSR, ecErr), made("CERTIFICATE", certificate(plain, &large, key), nil),
		made("CERTIFICATE", der[:len(der)-7], nil), made("CERTIFICATE REQUEST", der, nil), made("CERTIFICATE", csr, nil), made("CERTIFICATE", append(slices.Clone(der), 0), nil), made("CERTIFICATE", nil, nil),
		made("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)[:40], nil), made("PUBLIC KEY", []byte{1}, nil), good[:100], "", "x", strings.ReplaceAll(good, "\n", ""),
	}}
}
