package condition

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

// functionTests have what each function of Kyverno's gives, as JSON, or what is said where it gives an error. The differential
// test holds many more against Kyverno.
var functionTests = []struct{ expression, gives, says string }{
	{"compare('a', 'b')", `-1`, ""},
	{"compare('b', 'a')", `1`, ""},
	{"equal_fold('ÜNI', 'üni')", `true`, ""},
	{"to_upper('aü')", `"AÜ"`, ""},
	{"to_lower('AÜ')", `"aü"`, ""},
	{"to_upper(`1`)", "", `gives a function 1, which takes "string"`},
	{"to_boolean('TruE')", `true`, ""},
	{"to_boolean('False')", `false`, ""},
	{"to_boolean('yes')", "", "JMESPath function 'to_boolean': lowercase argument must be 'true' or 'false' (provided: 'yes')"},
	{"trim('xaxbx', 'x')", `"axb"`, ""},
	{"trim_prefix('aab', 'a')", `"ab"`, ""},
	{"truncate('üb', `1`)", `"ü"`, ""},
	{"truncate('ab', `2.9`)", `"ab"`, ""},
	{"truncate('ab', `-1`)", `""`, ""},
	{"truncate('ab', `1e21`)", `""`, ""},
	{"split('a,,b', ',')", `["a","","b"]`, ""},
	{"split('aü', '')", `["a","ü"]`, ""},
	{"replace('aaa', 'a', 'b', `2`)", `"bba"`, ""},
	{"replace('aaa', 'a', 'b', `-1`)", `"bbb"`, ""},
	{"replace_all('aaa', 'a', 'bb')", `"bbbbbb"`, ""},
	{"path_canonicalize('/a//./b/../c/')", `"/a/c"`, ""},
	{"path_canonicalize('')", `""`, ""},
	{"semver_compare('1.2.3', '>=1.2.0 <2.0.0')", `true`, ""},
	{"semver_compare('no version', '<0.0.1')", `true`, ""},
	{"semver_compare('1.2.3', '>x')", "", `Could not get version from string: ">x"`},
	{"pattern_match('1*', `123`)", `true`, ""},
	{"image_normalize('nginx')", `"docker.io/nginx:latest"`, ""},
	{"image_normalize('')", "", "is no image reference"},
	{"regex_match('^1+$', `11`)", `true`, ""},
	{"regex_replace_all('(a)(b)', 'xaby', '$2$1')", `"xbay"`, ""},
	{"regex_replace_all_literal('(a)(b)', 'xaby', '$2$1')", `"x$2$1y"`, ""},
	{"regex_match('(', 'a')", "", "error parsing regexp: missing closing ): `(`"},
	{"add(`1`, `2.5`)", `3.5`, ""},
	{"add('1Gi', '512Mi')", `"1536Mi"`, ""},
	{"add('1h', '30m0s')", `"1h30m0s"`, ""},
	{"add('1m', '1')", `"1001m"`, ""}, // 1m is a thousandth before it is a minute
	{"add(`1`, '1Gi')", "", "JMESPath function 'add': Types mismatch"},
	{"add('x', `1`)", "", "JMESPath function 'add': invalid operand"},
	{"subtract('1Gi', '1Gi')", `"0"`, ""},
	{"subtract('1h', '90s')", `"58m30s"`, ""},
	{"subtract(`1`, `3`)", `-2`, ""},
	{"multiply(`2`, '1.5Gi')", `"3Gi"`, ""},
	{"multiply('10s', `1.5`)", `"15s"`, ""},
	{"multiply('1', '1')", "", "JMESPath function 'multiply': Types mismatch"},
	{"divide('1Gi', '512Mi')", `2`, ""},
	{"divide('10', `4`)", `"2"`, ""},
	{"divide('1h', '30m0s')", `2`, ""},
	{"divide('1h', `4`)", `"15m0s"`, ""},
	{"divide(`1`, `0`)", "", "JMESPath function 'divide': Zero divisor passed"},
	{"divide('1h', '0s')", "", "JMESPath function 'divide': Zero divisor passed"},
	{"divide(`1`, '1')", "", "JMESPath function 'divide': Types mismatch"},
	{"modulo(`-7`, `3`)", `-1`, ""},
	{"modulo(`7`, `-3`)", `1`, ""},
	{"modulo('10', '4')", `"2"`, ""},
	{"modulo('5s', '2s')", `"1s"`, ""},
	{"modulo(`7`, `0.5`)", "", "JMESPath function 'modulo': Non-integer argument(s) passed for modulo"},
	{"modulo('7', '0')", "", "JMESPath function 'modulo': Zero divisor passed"},
	{"sum([`1`, `2`, `3`])", `6`, ""},
	{"sum(['1Ki', '1', '1023'])", `"2048"`, ""}, // what is no multiple of 1024 loses the unit
	{"sum(['x'])", `"x"`, ""},
	{"sum(`[]`)", "", "JMESPath function 'sum': at least one element in the array is required"},
	{"sum(['1', '1h'])", "", "JMESPath function 'sum': Types mismatch"},
	{"round(`2.345`, `2`)", `2.35`, ""},
	{"round(`-2.5`, `0`)", `-3`, ""},
	{"round(`1`, `0.5`)", "", "JMESPath function 'round': Non-integer argument(s) passed for round off"},
	{"label_match(`{\"a\":\"b\"}`, `{\"a\":\"b\",\"c\":\"d\"}`)", `true`, ""},
	{"label_match(`{\"a\":null}`, `{}`)", `false`, ""},
	{"lookup(`{\"a\":1}`, 'a')", `1`, ""},
	{"lookup(`{\"a\":1}`, 'b')", `null`, ""},
	{"lookup(['a'], `0`)", `"a"`, ""},
	{"lookup(['a'], `-1`)", `null`, ""},
	{"lookup(['a'], 'a')", "", "JMESPath function 'lookup': argument #2 is not of type Number"},
	{"lookup(`{}`, `1`)", "", "JMESPath function 'lookup': argument #2 is not of type String"},
	{"lookup(['a'], `0.5`)", "", "JMESPath function 'lookup': argument #2: expected an integer number but got: 0.5"},
	{"lookup(['a'], `1e21`)", "", "JMESPath function 'lookup': argument #2: number is outside the range of integer numbers: 1e+21"},
	{"items(`{\"b\":1,\"a\":2}`, 'k', 'v')", `[{"k":"a","v":2},{"k":"b","v":1}]`, ""},
	{"items(['x'], 'k', 'v')", `[{"k":0,"v":"x"}]`, ""},
	{"items(['x'], 'k', 'k')", `[{"k":"x"}]`, ""},
	{"object_from_lists(['a', `0.1`, `true`], ['x'])", `{"a":"x","0.1":null,"true":null}`, ""},
	{"object_from_lists([`null`], `[]`)", "", "JMESPath function 'object_from_lists': argument #1 is not of type StringArray"},
	{"time_now()", `"2024-01-02T04:04:05+01:00"`, ""},
	{"time_now_utc()", `"2024-01-02T03:04:05Z"`, ""},
	{"time_since('', '2024-01-02T03:00:00Z', '')", `"4m5s"`, ""},
	{"time_since('2006-01-02', '2024-01-02', '2024-01-03')", `"24h0m0s"`, ""},
	{"time_since('', 'x', '')", "", `parsing time "x" as "2006-01-02T15:04:05Z07:00"`},
	{"time_parse('2006-01-02', '2024-01-02')", `"2024-01-02T00:00:00Z"`, ""},
	{"time_parse('0', '1704164645')", `"2024-01-02T03:04:05Z"`, ""},
	{"time_parse('', '2024-01-02')", "", `extra text: "2024-01-02"`},
	{"time_parse('0', 'x')", "", `strconv.ParseInt: parsing "x": invalid syntax`},
	{"time_add('2024-01-02T03:04:05+01:00', '1h')", `"2024-01-02T04:04:05+01:00"`, ""},
	{"time_add('2024-01-02T03:04:05Z', '1d')", "", `time: unknown unit "d" in duration "1d"`},
	{"time_truncate('2024-01-02T03:04:05Z', '1h')", `"2024-01-02T03:00:00Z"`, ""},
	{"time_utc('2024-01-02T03:04:05+01:00')", `"2024-01-02T02:04:05Z"`, ""},
	{"time_to_cron('2024-01-02T03:04:05Z')", `"4 3 2 1 2"`, ""},
	{"time_diff('2024-01-02T03:04:05Z', '2024-01-02T03:00:00Z')", `"-4m5s"`, ""},
	{"time_before('2024-01-02T03:04:05Z', '2024-01-02T03:04:05Z')", `false`, ""},
	{"time_after('2024-01-02T03:04:06Z', '2024-01-02T03:04:05Z')", `true`, ""},
	{"time_between('2024-01-02T00:00:00Z', '2024-01-01T00:00:00Z', '2024-01-03T00:00:00Z')", `true`, ""},
	{"time_between('2024-01-01T00:00:00Z', '2024-01-01T00:00:00Z', '2024-01-03T00:00:00Z')", `false`, ""},
	{"base64_encode('ü')", `"w7w="`, ""},
	{"base64_decode('w7w=')", `"ü"`, ""},
	{"base64_decode('w7w')", "", "illegal base64 data at input byte 0"},
	{"parse_yaml('a: [1, 0x10, yes]')", `{"a":[1,16,true]}`, ""},
	{"parse_yaml('a: b: c')", "", "mapping values are not allowed in this context"},
	{"parse_json('[1]')", `[1]`, ""},
	{"parse_json('[1,')", "", "unexpected end"},
	{"md5('')", `"d41d8cd98f00b204e9800998ecf8427e"`, ""},
	{"sha1('')", `"da39a3ee5e6b4b0d3255bfef95601890afd80709"`, ""},
	{"sha256('')", `"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"`, ""},
	{"x509_decode('x')", "", "failed to decode PEM block"},
	{"x509_decode(rsa).[Subject.CommonName, SerialNumber, PublicKey.E, type(PublicKey.N), IsCA, NotBefore]", `["acme",7,65537,"string",true,"2024-01-02T03:04:05Z"]`, ""},
	{"x509_decode(request).[Subject.CommonName, DNSNames, PublicKey.E]", `["acme",["acme.example"],65537]`, ""},
	{"x509_decode(elliptic)", "", "certificate should use rsa algorithm"},
	{"x509_decode(other)", "", "PEM block neither contains a CERTIFICATE or CERTIFICATE REQUEST"},
	{"x509_decode(empty)", "", "x509: malformed certificate"},
	{"random('a')", "", "not available here"},
	{"is_external_url('https://example.com')", "", "not available here"},
}

func TestFunctions(t *testing.T) {
	document := encoded(certificates(t))
	now := time.Date(2024, 1, 2, 4, 4, 5, 0, time.FixedZone("", 3600))
	for _, test := range functionTests {
		t.Run(test.expression, func(t *testing.T) {
			got, err := resolved(test.expression, document, now)
			if test.says != "" {
				if !strings.Contains(err, test.says) {
					t.Errorf("it gives %s and says %q, want %q", encoded(got), err, test.says)
				}
				return
			}
			var want any
			if err := json.Unmarshal([]byte(test.gives), &want); err != nil {
				t.Fatal(err)
			}
			if err != "" || !reflect.DeepEqual(got, want) {
				t.Errorf("it gives %#v and says %q, want %#v", got, err, want)
			}
		})
	}
}

// resolved is what an expression gives on a document, or what it is refused for.
func resolved(expression, document string, now time.Time) (value any, refused string) {
	e := &evaluation{budget: newBudget(len(document), nil), now: now, functions: library}
	defer func() {
		if stopped, ok := recovered(recover()); ok {
			refused = stopped.reason
		}
	}()
	decoded, err := decodeDocument([]byte(document), e.budget)
	if err != nil {
		return nil, err.Error()
	}
	e.see(decoded)
	return e.resolve("{{ " + expression + " }}"), ""
}

// certificates are texts that x509_decode is called with.
func certificates(t *testing.T) map[string]any {
	t.Helper()
	own, err := rsa.GenerateKey(rand.Reader, 2048)
	other, otherErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil || otherErr != nil {
		t.Fatal(err, otherErr)
	}
	subject := pkix.Name{CommonName: "acme"}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: subject, NotBefore: time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC), IsCA: true, BasicConstraintsValid: true}
	written := func(kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	first, firstErr := x509.CreateCertificate(rand.Reader, template, template, &own.PublicKey, own)
	second, secondErr := x509.CreateCertificate(rand.Reader, template, template, &other.PublicKey, other)
	request, requestErr := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject, DNSNames: []string{"acme.example"}}, own)
	return map[string]any{
		"rsa": written("CERTIFICATE", first, firstErr), "elliptic": written("CERTIFICATE", second, secondErr), "request": written("CERTIFICATE REQUEST", request, requestErr),
		"other": written("PUBLIC KEY", []byte{1}, nil), "empty": written("CERTIFICATE", []byte{0}, nil),
	}
}

// TestFunctionsHaveTests keeps the table complete.
func TestFunctionsHaveTests(t *testing.T) {
	own := builtin()
	for name := range library {
		if _, ok := own[name]; ok {
			continue
		}
		tested := false
		for _, test := range functionTests {
			tested = tested || strings.HasPrefix(test.expression, name+"(")
		}
		if !tested {
			t.Errorf("the function %s has no test", name)
		}
	}
}
