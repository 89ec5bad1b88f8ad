package trust_test

import (
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

func TestCheckIdentity(t *testing.T) {
	const subject = "CN=release,O=Example,ST=WA,C=US"
	tests := map[string]struct {
		identities []string
		subject    string
		says       string // empty is trusted
	}{
		"everyone is trusted by a wildcard":                    {[]string{"*"}, "CN=x", ""},
		"a wildcard goes before what cannot be used":           {[]string{"nonsense", "*"}, "CN=x", ""},
		"the whole subject":                                    {[]string{"x509.subject: C=US, ST=WA, O=Example, CN=release"}, subject, ""},
		"a part of the subject is enough":                      {[]string{"x509.subject: C=US, ST=WA, O=Example"}, subject, ""},
		"S stands for ST":                                      {[]string{"x509.subject: C=US, S=WA, O=Example"}, subject, ""},
		"one of several is enough":                             {[]string{"x509.subject: C=US, ST=WA, O=Other", "x509.subject: C=US, ST=WA, O=Example"}, subject, ""},
		"an escaped comma belongs to the value":                {[]string{`x509.subject: C=US, ST=WA, O=Example\, Inc`}, `O=Example\, Inc,ST=WA,C=US`, ""},
		"another organization is refused":                      {[]string{"x509.subject: C=US, ST=WA, O=Other"}, subject, "not among"},
		"another case is another value":                        {[]string{"x509.subject: C=US, ST=WA, O=example"}, subject, "not among"},
		"an attribute that the subject lacks is refused":       {[]string{"x509.subject: C=US, ST=WA, O=Example, OU=Build"}, subject, "not among"},
		"a prefix of a value is another value":                 {[]string{"x509.subject: C=US, ST=WA, O=Example"}, "O=Example Inc,ST=WA,C=US", "not among"},
		"other kinds of identity trust nobody":                 {[]string{"other:C=US, ST=WA, O=Example"}, subject, "not among"},
		"no identity trusts nobody":                            {nil, subject, "not among"},
		"an identity without a kind":                           {[]string{"C=US"}, subject, "has no kind"},
		"an identity without C, ST and O":                      {[]string{"x509.subject: O=Example"}, subject, "lacks the attribute C"},
		"an identity with an attribute twice":                  {[]string{"x509.subject: C=US, ST=WA, O=Example, O=Other"}, subject, `"O" twice`},
		"a subject with an attribute twice is nobody's":        {[]string{"x509.subject: C=US, ST=WA, O=Example"}, "O=Example,O=Mallory,ST=WA,C=US", `"O" twice`},
		"a subject with joined attributes is nobody's":         {[]string{"x509.subject: C=US, ST=WA, O=Example"}, "O=Example+OU=Mallory,ST=WA,C=US", "joined by +"},
		"a subject with an encoded value is nobody's":          {[]string{"x509.subject: C=US, ST=WA, O=Example"}, "1.2.3=#0500,O=Example,ST=WA,C=US", "encoded value"},
		"a subject that is no name is nobody's":                {[]string{"x509.subject: C=US, ST=WA, O=Example"}, "Mallory", "no distinguished name"},
		"an empty subject is nobody's":                         {[]string{"x509.subject: C=US, ST=WA, O=Example"}, "", "lacks the attribute C"},
		"a value that looks like more attributes is one value": {[]string{"x509.subject: C=US, ST=WA, O=Example"}, `CN=x\,O=Example,O=Mallory,ST=WA,C=US`, "not among"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			err := trust.CheckIdentity(test.identities, test.subject)
			if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v; want %q", err, test.says)
			}
		})
	}
}

func TestPlatformAddress(t *testing.T) {
	hosts := []string{"tpp.example.com", "tpp.example.com:8443", "[2001:db8::1]"}
	tests := map[string]string{ // the address -> what is said; empty is allowed
		"https://tpp.example.com/vedsdk?id=1":       "",
		"https://TPP.example.com/":                  "",
		"https://tpp.example.com:443/":              "",
		"https://tpp.example.com:8443/":             "",
		"https://[2001:DB8::1]/":                    "",
		"https://tpp.example.com":                   "",
		"http://tpp.example.com/":                   "no https URL",
		"HTTPS://tpp.example.com/":                  "no https URL",
		"tpp.example.com/":                          "no https URL",
		"https:tpp.example.com":                     "no https URL",
		"https:///tpp.example.com":                  "no https URL",
		"":                                          "no https URL",
		"https://tpp.example.com:8444/":             "not that of the signing platform",
		"https://tpp.example.com.evil.example/":     "not that of the signing platform",
		"https://evil.example/tpp.example.com":      "not that of the signing platform",
		"https://127.0.0.1/":                        "not that of the signing platform",
		"https://2130706433/":                       "not that of the signing platform",
		"https://tpp.example.com./":                 "no name or address",
		"https://.tpp.example.com/":                 "no name or address",
		"https://[fe80::1%25eth0]/":                 "no https URL",
		"https://tpp.example.com@evil.example/":     "user or a fragment",
		"https://evil.example#@tpp.example.com/":    "user or a fragment",
		`https://evil.example\@tpp.example.com/`:    "plain characters",
		"https://tpp.example.com\t/":                "plain characters",
		" https://tpp.example.com/":                 "plain characters",
		"https://tpp.example.com/\r\nHost: a":       "plain characters",
		"https://tpp。example.com/":                  "plain characters",
		"https://tpp.example.com%2eevil.example/":   "plain characters",
		"https://tpp.example.com:/":                 "port is empty",
		"https://tpp.example.com:0443/":             "1 to 65535",
		"https://tpp.example.com:65979/":            "1 to 65535", // 443 more than there are
		"https://tpp.example.com:8443@evil.example": "user or a fragment",
	}
	for address, says := range tests {
		t.Run(address, func(t *testing.T) {
			err := trust.PlatformAddress(address, hosts)
			if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
				t.Errorf("%v; want %q", err, says)
			}
		})
	}
}
