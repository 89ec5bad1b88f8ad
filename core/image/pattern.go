package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/nirmata/kyverno-notation-venafi/core/wildcard"
)

// Bounds on patterns and on the work that those of one request may cause.
const (
	maxPattern  = 512     // bytes
	maxSearch   = 1 << 19 // steps to find a reference for every pattern, a few nanoseconds each
	maxMatching = 4 << 20 // characters compared to match images with patterns
)

// effort is the number of steps that are left. Below 0 the work was cut short, and its result means nothing.
type effort int

// Patterns parses the wildcard patterns of one request, within one bound on work.
type Patterns struct{ left effort }

// NewPatterns makes the parser for one request.
func NewPatterns() *Patterns { return &Patterns{left: maxSearch} }

// Parse gives the canonical form of a pattern. It refuses a pattern that matches no image, since it would silently switch a
// check off. The error begins with the pattern, or with "is" or "has", for a caller that names the field before it.
func (p *Patterns) Parse(written string) (string, error) {
	switch {
	case written == "":
		return "", errors.New(`is empty; name a pattern such as ghcr.io/acme/*, or "*" for every image`)
	case len(written) > maxPattern:
		return "", fmt.Errorf("is %d bytes; a pattern has at most %d", len(written), maxPattern)
	}
	pattern, err := canonicalPattern(written)
	if err == nil && p.matchable(pattern) {
		return pattern, nil
	}
	reason := "images are compared by their full name, such as docker.io/library/nginx:1.27 or ghcr.io/acme/app@sha256:..."
	switch {
	case p.left < 0:
		return "", errors.New("has, with the patterns before it, too many wildcards; use fewer and shorter patterns")
	case strings.TrimSpace(written) != written:
		reason = "it has space around it"
	case strings.Contains(written, "://"):
		reason = "an image's name has no scheme"
	case err != nil:
		reason = err.Error()
	}
	return "", fmt.Errorf("%q matches no image: %s; write %s", written, reason, p.suggestion(written))
}

// matchable tells whether a pattern matches some reference, by constructing one.
func (p *Patterns) matchable(pattern string) bool {
	example := references.example(pattern, &p.left)
	ref, err := Parse(example)
	return err == nil && matches(pattern, ref.Spellings(), &p.left)
}

// suggestion is what the author of a pattern that matches no image may have meant.
func (p *Patterns) suggestion(written string) string {
	bare := strings.TrimSpace(written)
	_, named, scheme := strings.Cut(bare, "://")
	if scheme {
		bare = named
	}
	tries := []string{bare, "docker.io/" + bare}
	if scheme {
		tries = tries[:1] // a registry follows a scheme
	}
	for _, try := range tries {
		if pattern, err := canonicalPattern(try); err == nil && pattern != written && p.matchable(pattern) {
			return fmt.Sprintf("%q", pattern)
		}
	}
	return `the registry and the repository, such as "ghcr.io/acme/*"`
}

// canonicalPattern gives a pattern with the canonical name of its registry. A registry with wildcards is only put in lower
// case.
func canonicalPattern(pattern string) (string, error) {
	first, rest, found := strings.Cut(pattern, "/")
	switch lower := strings.ToLower(first); {
	case !found:
		return pattern, nil
	case strings.ContainsAny(first, "*?"):
		return lower + "/" + rest, nil
	case !NamesRegistry(lower):
		return "", fmt.Errorf("%q is no registry that an image can name", first)
	}
	registry, err := CanonicalRegistry(first)
	return registry + "/" + rest, err
}

// Matcher matches the images of one request with its patterns, within one bound on work.
type Matcher struct{ left effort }

// NewMatcher makes the matcher for one request.
func NewMatcher() *Matcher { return &Matcher{left: maxMatching} }

// Exhausted tells whether the bound on work was exceeded, so that the last results mean nothing.
func (m *Matcher) Exhausted() bool { return m.left < 0 }

// Matches tells whether a pattern matches an image; spellings are its [Reference.Spellings]. For an image named by digest the
// pattern's tag is ignored: runtimes ignore the image's tag as well, so leaving it out or changing it must not evade the
// pattern.
func (m *Matcher) Matches(pattern string, ref Reference, spellings []string) bool {
	if matches(pattern, spellings, &m.left) {
		return true
	}
	tagless := withoutTag(pattern)
	return ref.Digest != "" && tagless != pattern && matches(tagless, spellings, &m.left)
}

// withoutTag gives the pattern without its tag.
func withoutTag(pattern string) string {
	name, digest, pinned := strings.Cut(pattern, "@")
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name = name[:colon]
	}
	if pinned {
		return name + "@" + digest
	}
	return name
}

// matches tells whether a pattern matches one of the spellings, as Kyverno compares them.
func matches(pattern string, spellings []string, left *effort) bool {
	pay := func(steps int) bool { *left -= effort(steps); return *left >= 0 }
	return slices.ContainsFunc(spellings, func(s string) bool { return wildcard.Match(pattern, s, pay) })
}

// grammar is a regular expression for all spellings of references (see [Reference.Spellings]), without some bounds on lengths
// and numbers. It follows CanonicalRegistry for registries, and distribution/reference for the rest.
const grammar = `^(?:` + hosts + `)/` + path + `(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?` + digests + `$`

const (
	hosts     = `(?:` + dnsLabel + `\.)+` + lastLabel + `(?:` + port + `)?|` + lastLabel + port + `|(?:localhost|` + ipv4 + `|` + ipv6 + `)(?:` + port + `)?`
	dnsLabel  = `[a-z0-9](?:[a-z0-9-]*[a-z0-9])?`
	lastLabel = `(?:(?:[0-9]*[a-wyz]|x|0[0-9]+x|[1-9][0-9]*x)(?:[a-z0-9-]*[a-z0-9])?|[0-9]+-[a-z0-9-]*[a-z0-9]|0x[0-9a-f]*(?:[g-z](?:[a-z0-9-]*[a-z0-9])?|-[a-z0-9-]*[a-z0-9]))` // no number
	port      = `:(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])`
	ipv4      = octet + `\.` + octet + `\.` + octet + `\.` + octet
	octet     = `(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])`
	ipv6      = `\[(?:` + group + `(?::` + group + `){7}|(?:` + group + `(?::` + group + `)*)?::(?:` + group + `(?::` + group + `)*)?)\]`
	group     = `(?:0|[1-9a-f][0-9a-f]{0,3})`
	path      = component + `(?:/` + component + `)*`
	component = `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`
	digests   = `(?:@sha(?:(?:512:[0-9a-f]{32}|384:)[0-9a-f]{32}|256:)[0-9a-f]{64})?`
)

// references recognises the spellings of references.
var references = newAutomaton(grammar)

// automaton is a deterministic finite automaton over ASCII. State 0 is the first.
type automaton struct {
	next  [][128]int16 // by state and character; -1 where no word of the language continues so
	edges [][]edge     // by state: one character for each following state
	final []bool
}

type edge struct {
	char byte
	to   int16
}

// newAutomaton makes the automaton of a regular expression by the subset construction: a state stands for a set of positions
// in the expression.
func newAutomaton(expression string) *automaton {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		panic(err) // the expression is a constant
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		panic(err)
	}
	a, sets, known := &automaton{}, [][]uint32{}, map[string]int16{}
	state := func(set []uint32) int16 {
		if len(set) == 0 {
			return -1
		}
		slices.Sort(set)
		var key []byte
		for _, place := range set {
			key = binary.BigEndian.AppendUint32(key, place)
		}
		if _, ok := known[string(key)]; !ok {
			known[string(key)] = int16(len(sets))
			sets = append(sets, set)
		}
		return known[string(key)]
	}
	state(closure(program, nil, uint32(program.Start)))
	for i := 0; i < len(sets); i++ {
		a.add(program, sets[i], state)
	}
	return a
}

// add adds the state of a set of positions.
func (a *automaton) add(program *syntax.Prog, set []uint32, state func([]uint32) int16) {
	var next [128]int16
	var edges []edge
	for char := range byte(128) {
		var following []uint32
		for _, place := range set {
			if inst := &program.Inst[place]; inst.Op != syntax.InstMatch && inst.MatchRune(rune(char)) {
				following = closure(program, following, inst.Out)
			}
		}
		next[char] = state(following)
		if to := next[char]; to >= 0 && !slices.ContainsFunc(edges, func(e edge) bool { return e.to == to }) {
			edges = append(edges, edge{char, to})
		}
	}
	a.next, a.edges = append(a.next, next), append(a.edges, edges)
	a.final = append(a.final, slices.ContainsFunc(set, func(place uint32) bool { return program.Inst[place].Op == syntax.InstMatch }))
}

// closure adds to a set the positions that are reached from a position without consuming a character, and that consume one
// or end the word.
func closure(program *syntax.Prog, set []uint32, place uint32) []uint32 {
	switch inst := program.Inst[place]; inst.Op {
	case syntax.InstAlt, syntax.InstAltMatch:
		return closure(program, closure(program, set, inst.Out), inst.Arg)
	case syntax.InstCapture, syntax.InstNop, syntax.InstEmptyWidth: // anchors, which hold since whole texts are compared
		return closure(program, set, inst.Out)
	case syntax.InstFail:
		return set
	}
	if slices.Contains(set, place) {
		return set
	}
	return append(set, place)
}

// node is a state that is reached by some text that matches the pattern so far.
type node struct {
	state int16
	char  byte  // the last character of that text; 0 when none was added
	from  int32 // index of the previous node; -1 for the first
}

// example gives a word of the language that a pattern matches; "" when there is none. It goes through the pattern and keeps
// all states of the automaton that are possible after each character.
func (a *automaton) example(pattern string, left *effort) string {
	nodes, seen := []node{{from: -1}}, make([]int, len(a.next))
	begin := 0
	for i := range len(pattern) {
		end, round := len(nodes), i+1
		reach := func(n node) {
			if n.state >= 0 && seen[n.state] != round {
				seen[n.state] = round
				nodes = append(nodes, n)
			}
		}
		for at := begin; at < len(nodes) && (at < end || pattern[i] == '*'); at++ {
			*left -= effort(1 + len(a.edges[nodes[at].state]))
			a.follow(pattern[i], nodes[at], int32(at), at < end, reach)
		}
		if begin = end; begin == len(nodes) || *left < 0 {
			return ""
		}
	}
	for at := begin; at < len(nodes); at++ {
		if a.final[nodes[at].state] {
			return spell(nodes, at)
		}
	}
	return ""
}

// follow calls reach for the nodes that follow a node by one character of the pattern. own is false for a node that the
// same * has reached.
func (a *automaton) follow(char byte, n node, at int32, own bool, reach func(node)) {
	switch {
	case char == '*' && own:
		reach(node{state: n.state, from: at})
	case char == '*' || char == '?':
		for _, e := range a.edges[n.state] {
			reach(node{e.to, e.char, at})
		}
	case char < 128:
		reach(node{a.next[n.state][char], char, at})
	}
}

// spell gives the text that led to a node.
func spell(nodes []node, at int) string {
	var text []byte
	for i := int32(at); i >= 0; i = nodes[i].from {
		if nodes[i].char != 0 {
			text = append(text, nodes[i].char)
		}
	}
	slices.Reverse(text)
	return string(text)
}
