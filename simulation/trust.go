package simulation

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// A fleet has so many of each.
const (
	signers      = 4
	policyNames  = 2
	storeNames   = 3
	repositories = 2
	images       = 3 // of a repository
	tags         = 2 // of a repository
)

// policy is a TrustPolicy resource.
type policy struct {
	name       int
	statements []statement
	unreadable bool // a field has the wrong type
}

// statement of a policy.
type statement struct {
	repository int // -1 for all
	level      string
	stores     []int
	signer     int // the trusted identity; -1 for all
}

// store is a TrustStore resource.
type store struct {
	name       int
	signers    []int // whose CAs it holds
	unreadable bool
}

// stored are the resources of one kind by their names as objects, from a moment on.
type stored[T any] struct {
	from time.Time
	all  map[string]T
}

// history is what an API server held, in order.
type history[T any] []stored[T]

// set adds a state in which one object differs; nil deletes it.
func (h *history[T]) set(at time.Time, object string, value *T) {
	next := map[string]T{}
	if len(*h) > 0 {
		next = maps.Clone((*h)[len(*h)-1].all)
	}
	delete(next, object)
	if value != nil {
		next[object] = *value
	}
	*h = append(*h, stored[T]{at, next})
}

// within gives the states that were the case at some moment of a window.
func (h history[T]) within(from, to time.Time) []map[string]T {
	var found []map[string]T
	for i, state := range h {
		ended := i+1 < len(h) && !h[i+1].from.After(from)
		if !ended && !state.from.After(to) {
			found = append(found, state.all)
		}
	}
	return found
}

func policyName(name int) string { return "tp-" + strconv.Itoa(name) }
func storeName(name int) string  { return "store-" + strconv.Itoa(name) }

func repositoryName(repository int) string { return fmt.Sprintf("reg-%d.example/app", repository) }

func subject(signer int) string { return fmt.Sprintf("CN=signer-%d,O=Acme,L=Here,ST=WA,C=US", signer) }

// texts gives strings as decoded JSON has them.
func texts(of ...string) []any {
	all := make([]any, len(of))
	for i, text := range of {
		all[i] = text
	}
	return all
}

// spec is the resource's specification, as decoded JSON.
func (p policy) spec() map[string]any {
	if p.unreadable {
		return map[string]any{"version": "1.0", "trustPolicyName": policyName(p.name), "trustPolicies": "none"}
	}
	var statements []any
	for i, s := range p.statements {
		scope := "*"
		if s.repository >= 0 {
			scope = repositoryName(s.repository)
		}
		written := map[string]any{
			"name": "statement-" + strconv.Itoa(i), "registryScopes": texts(scope),
			"signatureVerification": map[string]any{"level": s.level},
		}
		if s.level != "skip" {
			identity := "*"
			if s.signer >= 0 {
				identity = "x509.subject: " + subject(s.signer)
			}
			var stores []string
			for _, store := range s.stores {
				stores = append(stores, "ca:"+storeName(store))
			}
			written["trustStores"], written["trustedIdentities"] = texts(stores...), texts(identity)
		}
		statements = append(statements, written)
	}
	return map[string]any{"version": "1.0", "trustPolicyName": policyName(p.name), "trustPolicies": statements}
}

func (s store) spec() map[string]any {
	spec := map[string]any{"trustStoreName": storeName(s.name), "type": "ca"}
	if s.unreadable {
		spec["caBundle"] = texts("no", "text")
		return spec
	}
	bundle := ""
	for _, signer := range s.signers {
		bundle += people()[signer].pem
	}
	spec["caBundle"] = bundle
	return spec
}

// drawPolicy draws a policy that mostly trusts the store of its own number.
func drawPolicy(r random, name int) policy {
	p := policy{name: name, unreadable: r.chance(4)}
	drawn := func(repository int) statement {
		s := statement{repository: repository, level: pick(r, "strict", "strict", "strict", "permissive", "audit", "skip"), signer: -1}
		s.stores = []int{r.IntN(storeNames)}
		if r.chance(25) {
			s.stores = append(s.stores, (s.stores[0]+1)%storeNames)
		}
		if r.chance(25) {
			s.signer = r.IntN(signers)
		}
		return s
	}
	p.statements = append(p.statements, drawn(-1))
	if r.chance(40) {
		p.statements = append(p.statements, drawn(r.IntN(repositories)))
	}
	return p
}

func drawStore(r random, name int) store {
	s := store{name: name, unreadable: r.chance(4)}
	for signer := range signers {
		if r.chance(65) {
			s.signers = append(s.signers, signer)
		}
	}
	if len(s.signers) == 0 {
		s.signers = []int{r.IntN(signers)}
	}
	return s
}

// usable gives the one resource that claims a name.
func usable[T any](all map[string]T, is func(T) (claims, readable bool)) (found T, ok bool) {
	n := 0
	for _, object := range slices.Sorted(maps.Keys(all)) {
		if claims, readable := is(all[object]); claims {
			n++
			found, ok = all[object], readable
		}
	}
	return found, ok && n == 1
}
