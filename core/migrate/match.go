package migrate

import (
	"regexp"
	"slices"
	"strings"

	"github.com/samber/lo"
)

// block is a match or an exclude.
type block struct {
	at      value
	every   bool // all of the filters have to apply, rather than one
	filters []filter
}

// filter is a resource filter: what it says has to hold together.
type filter struct {
	at           value
	kinds        []kind
	resources    []Resource // that the kinds of a match stand for
	operations   []string
	namespaces   []string
	byNamespace  *selector // namespaceSelector
	conditions   []cel     // all else, but for
	ownWord      []cel     // conditions on m, the object's metadata
	byOwnWord    []string  // their fields
	hasSelection bool      // it has anything
}

// selector is a label selector.
type selector struct {
	at          value
	labels      []label
	expressions []requirement
}

type label struct{ key, value string }

type requirement struct {
	Key      string   `yaml:"key"`
	Operator string   `yaml:"operator"`
	Values   []string `yaml:"values,omitempty,flow"`
}

// readBlock reads match or exclude. The kinds of a match have to be known.
func (t *translation) readBlock(v value, isMatch bool) (b block) {
	b.at = v
	list := func(every bool) func(value) {
		return func(v value) {
			if len(b.filters) > 0 {
				v.fail("stands beside another list or field; Kyverno looks at one of them")
			}
			b.every = every
			v.list(func(v value) {
				f := filter{at: v}
				v.object(t.filterFields(&f, isMatch))
				b.filters = append(b.filters, f)
			})
		}
	}
	f := filter{at: v}
	known := t.filterFields(&f, isMatch)
	known["any"], known["all"] = list(false), list(true)
	v.object(known)
	if f.hasSelection {
		if len(b.filters) > 0 {
			v.fail("has any or all beside other fields; Kyverno looks at any and all only")
		}
		b.filters = append(b.filters, f)
	}
	for _, f := range b.filters {
		if !f.hasSelection {
			f.at.fail("selects nothing; remove it")
		}
	}
	return b
}

// filterFields reads the fields of a resource filter into f.
func (t *translation) filterFields(f *filter, isMatch bool) fields {
	add := func(c cel) { f.conditions, f.hasSelection = append(f.conditions, c), true }
	ownWord := func(v value, c cel) {
		f.byOwnWord, f.ownWord, f.hasSelection = append(f.byOwnWord, v.field), append(f.ownWord, c), true
	}
	names := func(v value, patterns []string) {
		const name = `[has(m.name) && m.name != "" ? m.name : has(m.generateName) ? m.generateName : ""]`
		ownWord(v, called(name+".exists(n, "+matches("n", patterns).text+")"))
	}
	resources := fields{
		"kinds": func(v value) { f.readKinds(v, t.known, isMatch) },
		"name":  func(v value) { names(v, []string{v.text()}) },
		"names": func(v value) { names(v, v.texts()) },
		"namespaces": func(v value) {
			f.namespaces, f.hasSelection = readNames(v), true
		},
		"annotations": func(v value) {
			v.entries(func(key string, text value) {
				ownWord(v, exists("m.annotations", key, text.text()))
			})
		},
		"selector": func(v value) {
			ownWord(v, readSelector(v).condition("m.labels"))
		},
		"namespaceSelector": func(v value) {
			f.byNamespace, f.hasSelection = readSelector(v), true
		},
		"operations": func(v value) {
			f.operations, f.hasSelection = readOperations(v, isMatch), true
			if len(f.operations) == 0 {
				add(never)
			}
		},
	}
	noRoles := func(v value) {
		v.fail("goes by roles, which a CEL policy is not told; name the users, groups or service accounts under subjects")
		f.hasSelection = true
	}
	return fields{
		"resources": func(v value) { v.object(resources) },
		"roles":     noRoles, "clusterRoles": noRoles,
		"subjects": func(v value) {
			var parts []cel
			v.list(func(v value) { parts = append(parts, readSubject(v)) })
			add(anyOf(parts...))
		},
	}
}

func (f *filter) readKinds(v value, known []Resource, isMatch bool) {
	v.list(func(v value) {
		k, ok := parseKind(v.text())
		switch {
		case !ok:
			v.fail("is no kind; write Kind or group/version/Kind")
		case isMatch:
			f.resources = append(f.resources, k.resources(v, known)...)
		case k.subresource != "" && k.subresource != "*" && k.subresource != ephemeral:
			v.fail("has a subresource that no image is in; take it out")
		}
		f.kinds = append(f.kinds, k)
	})
	f.hasSelection = true
}

// What an API server takes in a selector. One that it does not take would keep Kyverno from registering any webhook anew.
var (
	namespaceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	labelName     = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	labelPrefix   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

// readNames reads names of namespaces, or patterns of them.
func readNames(v value) (names []string) {
	v.list(func(v value) {
		name := v.text()
		if !wild(name) && !namespaceName.MatchString(name) {
			v.fail("is %s, which no namespace is called; remove it, and write what is not meant under exclude", quoted(name))
		}
		names = append(names, name)
	})
	return names
}

// checkLabel refuses a key or a value that no label has.
func checkLabel(v value, key string, values ...string) {
	prefix, name, prefixed := strings.Cut(key, "/")
	if !prefixed {
		prefix, name = "x", key
	}
	if !labelName.MatchString(name) || !labelPrefix.MatchString(prefix) || len(prefix) > 253 {
		v.fail("has the key %s, which no label has; correct it", quoted(key))
	}
	for _, value := range values {
		if value != "" && !labelName.MatchString(value) {
			v.fail("has the value %s, which no label has; correct it", quoted(value))
		}
	}
}

// readOperations keeps those in which images come in.
func readOperations(v value, isMatch bool) (operations []string) {
	v.list(func(v value) {
		operation := v.choice("CREATE", "UPDATE", "DELETE", "CONNECT")
		if operation == "DELETE" || operation == "CONNECT" {
			if isMatch {
				v.fail("asks about an operation in which no image comes in; take it out")
			}
			return // in an exclude: of what never gets here
		}
		operations = append(operations, operation)
	})
	return lo.Uniq(operations)
}

// readSubject gives the condition that the request is by a subject, whose name may be a pattern.
func readSubject(v value) cel {
	var kind, name, namespace string
	v.object(fields{
		"kind":      func(v value) { kind = v.choice("User", "Group", "ServiceAccount") },
		"name":      func(v value) { name = v.text() },
		"namespace": func(v value) { namespace = v.text() },
		"apiGroup":  func(v value) { v.text() },
	})
	if kind == "" || name == "" {
		v.fail("needs a kind and a name")
	}
	switch kind {
	case "Group":
		if wild(name) {
			return called("request.userInfo.groups.exists(g, " + matches("g", []string{name}).text + ")")
		}
		return compare(literal(name), "in", "request.userInfo.groups")
	case "ServiceAccount":
		name = "system:serviceaccount:" + namespace + ":" + name
	}
	return matches("request.userInfo.username", []string{name})
}

func readSelector(v value) *selector {
	s := &selector{at: v}
	v.object(fields{
		"matchLabels": func(v value) {
			v.entries(func(key string, text value) {
				l := label{key, text.text()}
				if !wild(l.key) && !wild(l.value) {
					checkLabel(text, l.key, l.value)
				}
				s.labels = append(s.labels, l)
			})
		},
		"matchExpressions": func(v value) {
			v.list(func(v value) {
				var r requirement
				v.object(fields{
					"key":      func(v value) { r.Key = v.text() },
					"operator": func(v value) { r.Operator = v.choice("In", "NotIn", "Exists", "DoesNotExist") },
					"values":   func(v value) { r.Values = v.texts() },
				})
				if listed := strings.HasSuffix(r.Operator, "In"); r.Key == "" || r.Operator == "" || listed != (len(r.Values) > 0) {
					v.fail("needs a key, an operator, and values with In and NotIn")
				}
				checkLabel(v, r.Key, r.Values...)
				s.expressions = append(s.expressions, r)
			})
		},
	})
	return s
}

// condition is true where labels, given as an expression, meet the selector.
func (s *selector) condition(labels string) cel {
	var parts []cel
	for _, l := range s.labels {
		parts = append(parts, exists(labels, l.key, l.value))
	}
	for _, r := range s.expressions {
		parts = append(parts, r.condition(labels))
	}
	return all(parts...)
}

func (r requirement) condition(labels string) cel {
	has := all(hasField(labels), compare(literal(r.Key), "in", labels))
	value := labels + "[" + literal(r.Key) + "]"
	switch r.Operator {
	case "In":
		return all(has, compare(value, "in", literals(r.Values)))
	case "NotIn":
		return not(all(has, compare(value, "in", literals(r.Values))))
	case "Exists":
		return has
	}
	return not(has)
}

// exists is true where a map has a key with a value, both of which may be patterns.
func exists(entries, key, text string) cel {
	if !wild(key) {
		return all(hasField(entries), compare(literal(key), "in", entries), matches(entries+"["+literal(key)+"]", []string{text}))
	}
	inner := all(matches("k", []string{key}), matches(entries+"[k]", []string{text}))
	return all(hasField(entries), called(entries+".exists(k, "+inner.text+")"))
}

func hasField(path string) cel { return called("has(" + path + ")") }

// storedMetadata is that with which the object will be stored. On pods/ephemeralcontainers the API server puts back what is stored,
// so what the request says there counts for nothing.
var storedMetadata = "(" + isEphemeral.text + " ? oldObject : object).metadata"

// selects tells whether two filters match the same kinds in the same operations.
func (f filter) selects(other filter) bool {
	return slices.Equal(f.kinds, other.kinds) && slices.Equal(f.operations, other.operations)
}

// condition is true where the filter applies, given what all requests that get here have in common.
func (f filter) condition(common filter) cel {
	parts := []cel{always}
	if len(f.kinds) > 0 && !slices.Equal(f.kinds, common.kinds) {
		parts = append(parts, kindCondition(f.kinds))
	}
	if len(f.operations) > 0 && !slices.Equal(f.operations, common.operations) {
		parts = append(parts, matches("request.operation", f.operations))
	}
	if len(f.namespaces) > 0 {
		parts = append(parts, matches("request.namespace", f.namespaces))
	}
	if f.byNamespace != nil {
		parts = append(parts, f.byNamespace.condition("namespaceObject.metadata.labels"))
	}
	if len(f.ownWord) > 0 {
		parts = append(parts, called("["+storedMetadata+"].exists(m, "+all(f.ownWord...).text+")"))
	}
	return all(append(parts, f.conditions...)...)
}

// labelSelector is a selector as it is printed.
type labelSelector struct {
	MatchLabels      map[string]string `yaml:"matchLabels,omitempty"`
	MatchExpressions []requirement     `yaml:"matchExpressions,omitempty"`
}

// lift takes out of the only filter of a match what the API server can select by itself, so that Kyverno is asked for less.
func (f *filter) lift() *labelSelector {
	var lifted labelSelector
	if len(f.namespaces) > 0 && !slices.ContainsFunc(f.namespaces, wild) {
		lifted.MatchExpressions = []requirement{{"kubernetes.io/metadata.name", "In", f.namespaces}}
		f.namespaces = nil
	}
	if s := f.byNamespace; s != nil && !slices.ContainsFunc(s.labels, func(l label) bool { return wild(l.key) || wild(l.value) }) {
		lifted.MatchLabels = lo.SliceToMap(s.labels, func(l label) (string, string) { return l.key, l.value })
		lifted.MatchExpressions = append(lifted.MatchExpressions, s.expressions...)
		f.byNamespace = nil
	}
	if len(lifted.MatchLabels)+len(lifted.MatchExpressions) == 0 {
		return nil
	}
	return &lifted
}

// condition is true where the block applies.
func (b block) condition(common filter) cel {
	parts := lo.Map(b.filters, func(f filter, _ int) cel { return f.condition(common) })
	if b.every {
		return all(parts...)
	}
	return anyOf(parts...)
}
