package image

import (
	"regexp"
	"strings"
	"testing"
)

// FuzzPattern holds that a pattern which is accepted selects an image, also when it is read as a regular expression.
func FuzzPattern(f *testing.F) {
	digest := strings.Repeat("0123456789abcdef", 4)
	for _, s := range []string{
		"*", "**", "?*", "ghcr.io/acme/*", "GHCR.io:0443/acme/*", "index.docker.io/*", "*.docker.io/nginx:*", "nginx", "nginx*", "library/nginx:*",
		"https://reg/*", " reg/*", "reg/*\n", "*@sha256:*", "*:v?@sha256:" + digest, "*@sha512:*", "[::1]:5000/*", "[fd00:*/x", "10.*/x", "10.0.0.*:5000/*",
		"*:70000/*", "*/Acme/*", "*:V1", "ghcr.io/*:" + strings.Repeat("a", 129), "é*", "docker.io/nginx", "*/*/*/*/*:v*@*", "*a*a*a*a*a*a*a*a*b", "my_reg.example/*",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, written string) {
		pattern, err := NewPatterns().Parse(written)
		if err != nil {
			return
		}
		left := effort(maxSearch)
		example := references.example(pattern, &left)
		ref, err := Parse(example)
		if err != nil {
			t.Fatalf("%q is accepted for %q, which is no reference: %v", written, example, err)
		}
		if !asRegularExpression(pattern).MatchString(example) {
			t.Fatalf("%q is accepted for %q, which it does not match as a regular expression", written, example)
		}
		if !selects(t, pattern, ref) {
			t.Fatalf("%q is accepted for %q, which it does not select", written, example)
		}
		if again, err := NewPatterns().Parse(pattern); err != nil || again != pattern {
			t.Fatalf("%q is %q, and that is %q: %v", written, pattern, again, err)
		}
	})
}

// asRegularExpression says in another language what a pattern matches.
func asRegularExpression(pattern string) *regexp.Regexp {
	return regexp.MustCompile("(?s)^" + strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern)) + "$")
}

// FuzzPatternOfReference holds that a pattern which is made of a reference's name, by putting a wildcard for a part of it,
// is accepted and selects it.
func FuzzPatternOfReference(f *testing.F) {
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	for _, name := range []string{
		"nginx", "ghcr.io/acme/app:v1", "reg.example:0443/a/b/c_d__e-f.g@" + digest, "[::1]:5000/x", "10.0.0.1:5000/x:V1_.-", "localhost/x", "reg:443/x", "1-a.0x.12x/x",
		"[2001:db8:0:1::1]/x", "reg.example/x@sha512:" + strings.Repeat("0123456789abcdef", 8), "reg.example/x:v1@sha384:" + strings.Repeat("0123456789abcdef", 6),
	} {
		for i := range uint16(8) {
			f.Add(name, i*5, i*7, i%2 == 0)
		}
	}
	f.Fuzz(func(t *testing.T, name string, from, to uint16, single bool) {
		ref, err := Parse(name)
		if err != nil {
			return
		}
		for _, spelling := range ref.Spellings() {
			i, j := int(from)%len(spelling), int(to)%len(spelling)
			if i > j {
				i, j = j, i
			}
			wild := "*"
			if single {
				if wild = strings.Repeat("?", j-i); j-i > maxLabel/2 {
					continue // the text that is found for it may have too long a label, and is not taken then
				}
			}
			pattern := spelling[:i] + wild + spelling[j:]
			if len(pattern) > maxPattern || strings.HasPrefix(pattern, "[") && !strings.Contains(pattern, "]") || strings.Contains(spelling, "[") && i < strings.Index(spelling, "]") {
				continue // of the addresses under wildcards not all are found
			}
			written, err := NewPatterns().Parse(pattern)
			if err != nil {
				t.Fatalf("%q matches %q and is refused: %v", pattern, spelling, err)
			}
			if !selects(t, written, ref) {
				t.Fatalf("%q is read as %q and does not select %q", pattern, written, spelling)
			}
		}
	})
}

// selects tells whether a pattern selects a reference.
func selects(t *testing.T, pattern string, ref Reference) bool {
	t.Helper()
	matcher := NewMatcher()
	selected := matcher.Matches(pattern, ref, ref.Spellings())
	if matcher.Exhausted() {
		t.Fatalf("%q is too costly to hold against %s", pattern, ref)
	}
	return selected
}

// TestPatternsRefuseWhatMatchesNoImage once the bound on work is reached.
func TestPatternsRefuseWhatMatchesNoImage(t *testing.T) {
	image := "ghcr.io/" + strings.Repeat("a/", 100) + "a"
	var left effort = maxMatching
	for left >= 0 {
		matches(strings.Repeat("*a", 250)+"*b", []string{image}, &left)
	}
	if matches("*", []string{image}, &left) {
		t.Error("what is not compared matches")
	}
}

// BenchmarkWorstPatterns is what patterns can cost at most, read and held against images.
func BenchmarkWorstPatterns(b *testing.B) {
	image := "ghcr.io/" + strings.Repeat("a", 250) + ":" + strings.Repeat("a", 120)
	for b.Loop() {
		reader := NewPatterns()
		for reader.left >= 0 {
			_, _ = reader.Parse(strings.Repeat("*a", 250) + "*")
		}
		for left := effort(maxMatching); left >= 0; {
			matches(strings.Repeat("*a", 250)+"*b", []string{image}, &left)
		}
	}
}
