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
	maxSearch   = 1 << 19 // steps to find references for the patterns, some nanoseconds each
	maxMatching = 4 << 20 // characters compared to hold the images against the patterns
)

// effort is what is left of a bound on work. Under 0 the work ended early, and its result means nothing.
type effort int

// Patterns reads the wildcard patterns of one request, whose work is bounded together.
type Patterns struct{ left effort }

// NewPatterns gives the reader for one request.
func NewPatterns() *Patterns { return &Patterns{left: maxSearch} }

// Parse gives the canonical form of a pattern. It refuses one for which it finds no image that the pattern matches,
// since such a pattern leaves every image as it is, or demands nothing of any. The error begins with what the pattern "is" or
// "has", or with the pattern.
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

// matchable tells whether a pattern matches a reference, by finding one.
func (p *Patterns) matchable(pattern string) bool {
	example := references.example(pattern, &p.left)
	ref, err := Parse(example)
	return err == nil && matches(pattern, ref.Spellings(), &p.left)
}

// suggestion is what the author of a pattern that matches nothing may have meant.
func (p *Patterns) suggestion(written string) string {
	bare := strings.TrimSpace(written)
	_, named, scheme := strings.Cut(bare, "://")
	if scheme {
		bare = named
	}
	tries := []string{bare, "docker.io/" + bare}
	if scheme {
		tries = tries[:1] // what follows is a registry
	}
	for _, try := range tries {
		if pattern, err := canonicalPattern(try); err == nil && pattern != written && p.matchable(pattern) {
			return fmt.Sprintf("%q", pattern)
		}
	}
	return `the registry and the repository, such as "ghcr.io/acme/*"`
}

// canonicalPattern writes the registry that a pattern names as references have it. Where it is named by wildcards, it
// is written in lower case.
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

// Matcher holds the images of one request against its patterns, by work that is bounded together.
type Matcher struct{ left effort }

// NewMatcher gives the matcher for one request.
func NewMatcher() *Matcher { return &Matcher{left: maxMatching} }

// Exhausted tells that the work was over its bound and ended early, so that what was said of the last images means nothing.
func (m *Matcher) Exhausted() bool { return m.left < 0 }

// Matches tells whether a pattern matches an image, whose spellings are those of [Reference.Spellings]. Where a digest names
// the image, no runtime reads its tag, and anyone may leave it out or write another. So the tag of a pattern is not held
// against it: an image that was pinned stays demanded of.
func (m *Matcher) Matches(pattern string, ref Reference, spellings []string) bool {
	if matches(pattern, spellings, &m.left) {
		return true
	}
	tagless := withoutTag(pattern)
	return ref.Digest != "" && tagless != pattern && matches(tagless, spellings, &m.left)
}

// withoutTag gives a pattern for the same images under whatever tag.
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

// matches compares as Kyverno does, with each spelling of a reference.
func matches(pattern string, spellings []string, left *effort) bool {
	pay := func(steps int) bool { *left -= effort(steps); return *left >= 0 }
	return slices.ContainsFunc(spellings, func(s string) bool { return wildcard.Match(pattern, s, pay) })
}

// grammar is the language of the spellings of references (see [Reference.Spellings]), but for some bounds on lengths and
// numbers. It follows CanonicalRegistry, and distribution/reference for the rest.
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
	next  [][128]int16 // by state and character; -1 where no text of the language goes on so
	edges [][]edge     // by state: a character to each state that follows
	final []bool
}

type edge struct {
	char byte
	to   int16
}

// newAutomaton makes an automaton of an expression by the subset construction: a state for each set of places in the
// expression at which a text may have arrived.
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

// add makes the next state of the automaton, that of a set of places.
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

// closure adds to a set the places that consume a character, or end the text, which are reached from a place without
// one.
func closure(program *syntax.Prog, set []uint32, place uint32) []uint32 {
	switch inst := program.Inst[place]; inst.Op {
	case syntax.InstAlt, syntax.InstAltMatch:
		return closure(program, closure(program, set, inst.Out), inst.Arg)
	case syntax.InstCapture, syntax.InstNop, syntax.InstEmptyWidth: // the anchors: whole texts are compared
		return closure(program, set, inst.Out)
	case syntax.InstFail:
		return set
	}
	if slices.Contains(set, place) {
		return set
	}
	return append(set, place)
}

// node is a state that a text which begins as the pattern does leads to.
type node struct {
	state int16
	char  byte  // with which it was reached; 0 when without one
	from  int32 // index of the node before; -1 for the first
}

// example gives a text of the language that a pattern matches; "" when there is none. It walks pattern and automaton
// side by side, with all states that are possible after each character of the pattern.
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

// follow reaches the states to which a character of a pattern leads from a node. What * reaches goes on from there;
// own tells of a node that * has not reached yet.
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

// spell gives the text that leads to a node.
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
