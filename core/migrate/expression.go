package migrate

import (
	"regexp"
	"strings"

	"github.com/kyverno/go-jmespath"
)

// typed is an expression of CEL and the type that its value has.
type typed struct {
	cel
	is     kindOfValue
	absent bool   // it may be absent, and then is an error; || makes it present
	guard  string // of what may be absent, with or without a default: true where it is there and not empty
	fixed  string // of a literal, or as a default: the text
}

type kindOfValue int

const (
	unknown kindOfValue = iota // was refused
	text
	fixedText // a literal
	textList
	boolean
	objectSpec // to be compared with another
)

// defaultsTo tells that an expression is a field or, where that is absent, the empty text, and is compared with just that.
func (t typed) defaultsTo(text string) bool {
	return t.binds == conditional && t.fixed == "" && text == ""
}

// isText tells whether a value is text.
func (k kindOfValue) isText() bool { return k == text || k == fixedText }

// maxExpression bounds a JMESPath expression and the signs that nest in it.
const (
	maxExpression = 4096 // bytes
	maxNesting    = 100
)

var variable = regexp.MustCompile(`(^|[^\\])(\{\{(?:\{[^{}]*\}|[^{}])*\}\})`)

// facts are what the API server says of a request, in JMESPath and in CEL. What the object says is not among them.
var facts = map[string]typed{
	"request.operation":                 {cel: called("request.operation"), is: text},
	"request.namespace":                 {cel: called("request.namespace"), is: text},
	"request.object.metadata.namespace": {cel: called("request.namespace"), is: text},
	"request.kind.group":                {cel: called("request.kind.group"), is: text},
	"request.kind.version":              {cel: called("request.kind.version"), is: text},
	"request.kind.kind":                 {cel: called("request.kind.kind"), is: text},
	"request.object.kind":               {cel: called("request.kind.kind"), is: text},
	"request.userInfo.username":         {cel: called("request.userInfo.username"), is: text},
	"request.userInfo.groups":           {cel: called("request.userInfo.groups"), is: textList},
	"request.subResource":               {cel: called("request.subResource"), is: text, absent: true, guard: `has(request.subResource) && request.subResource != ""`},
	"request.object.spec":               {cel: called("object.spec"), is: objectSpec},
	"request.oldObject.spec":            {cel: called("oldObject.spec"), is: objectSpec},
}

// ofStored are the fields of a stored object's metadata that are text.
var ofStored = []string{"name", "namespace", "generateName", "uid", "creationTimestamp", "deletionTimestamp"}

// expression translates one JMESPath expression.
func expression(v value, source string) typed {
	nesting := 0
	for i := range len(source) {
		if strings.IndexByte("([{!&*", source[i]) >= 0 {
			nesting++
		}
	}
	if len(source) > maxExpression || nesting > maxNesting {
		v.fail("has an expression over %d bytes or %d brackets; shorten it", maxExpression, maxNesting)
		return typed{}
	}
	node, err := jmespath.NewParser().Parse(source)
	if err != nil {
		v.fail("has the expression %s, which is no JMESPath: %s", quoted(source), clip(err.Error()))
		return typed{}
	}
	return (&reader{v, source}).read(node)
}

// reader translates the nodes of an expression.
type reader struct {
	at     value
	source string
}

func (r *reader) refuse(why string) typed {
	r.at.fail("has the expression %s, which cannot be carried over: %s", quoted(r.source), why)
	return typed{}
}

func (r *reader) read(node jmespath.ASTNode) typed {
	switch node.NodeType {
	case jmespath.ASTLiteral:
		return r.constant(node.Value)
	case jmespath.ASTField, jmespath.ASTSubexpression:
		return r.path(node)
	case jmespath.ASTOrExpression, jmespath.ASTAndExpression:
		return r.logic(node)
	case jmespath.ASTNotExpression:
		operand := r.read(node.Children[0])
		if operand.is == unknown {
			return operand
		}
		if operand.is != boolean {
			return r.refuse("! takes true or false")
		}
		return typed{cel: not(operand.cel), is: boolean}
	case jmespath.ASTComparator:
		return r.comparison(node)
	case jmespath.ASTFunctionExpression:
		return r.function(node)
	}
	return r.refuse("of JMESPath only fields, texts, ||, &&, !, ==, !=, starts_with, ends_with and contains are known here; write it in CEL, as a matchCondition of both policies")
}

func (r *reader) constant(value any) typed {
	switch c := value.(type) {
	case string:
		return typed{cel: called(literal(c)), is: fixedText, fixed: c}
	case bool:
		if c {
			return typed{cel: always, is: boolean}
		}
		return typed{cel: never, is: boolean}
	}
	return r.refuse("of literals only texts, true and false are known here")
}

// path translates a path of fields.
func (r *reader) path(node jmespath.ASTNode) typed {
	names, ok := fieldNames(node)
	if !ok {
		return r.refuse("a part of its path is no field")
	}
	whole := strings.Join(names, ".")
	if fact, known := facts[whole]; known {
		return fact
	}
	if stored, ok := storedField(names); ok {
		return stored
	}
	switch {
	case len(names) > 1 && names[0] == "request" && (names[1] == "object" || names[1] == "name"):
		return r.refuse("it goes by what the object says of itself, and whoever writes the object decides that; go by the namespace, the user or request.oldObject instead")
	case len(names) > 1 && names[0] == "request" && (names[1] == "roles" || names[1] == "clusterRoles"):
		return r.refuse("a CEL policy is not told roles; go by request.userInfo")
	}
	return r.refuse("the variable is not known here; write its value instead")
}

// storedField is a text of the stored object's metadata. It may be absent; a new object has none.
func storedField(names []string) (typed, bool) {
	if len(names) < 4 || names[0] != "request" || names[1] != "oldObject" || names[2] != "metadata" {
		return typed{}, false
	}
	guard := all(compare("request.operation", "==", `"UPDATE"`), hasField("oldObject.metadata."+names[3]))
	path := "oldObject.metadata." + names[3]
	switch isMap := names[3] == "labels" || names[3] == "annotations"; {
	case isMap && len(names) == 5:
		inside := compare(literal(names[4]), "in", path)
		path += "[" + literal(names[4]) + "]"
		guard = all(guard, inside, compare(path, "!=", `""`))
	case isMap || len(names) != 4 || !contains(ofStored, names[3]):
		return typed{}, false
	}
	return typed{cel: called(path), is: text, absent: true, guard: guard.text}, true
}

func contains(all []string, one string) bool {
	for _, each := range all {
		if each == one {
			return true
		}
	}
	return false
}

// fieldNames gives the names of a path; false where a part of it is no field.
func fieldNames(node jmespath.ASTNode) ([]string, bool) {
	switch node.NodeType {
	case jmespath.ASTField:
		name, ok := node.Value.(string)
		return []string{name}, ok
	case jmespath.ASTSubexpression:
		left, ok := fieldNames(node.Children[0])
		right, also := fieldNames(node.Children[1])
		return append(left, right...), ok && also
	}
	return nil, false
}

// logic translates || and &&. With a text, || gives a default for what is absent or empty.
func (r *reader) logic(node jmespath.ASTNode) typed {
	left, right := r.read(node.Children[0]), r.read(node.Children[1])
	switch isOr := node.NodeType == jmespath.ASTOrExpression; {
	case left.is == unknown || right.is == unknown:
		return typed{}
	case left.is == boolean && right.is == boolean && isOr:
		return typed{cel: anyOf(left.cel, right.cel), is: boolean}
	case left.is == boolean && right.is == boolean:
		return typed{cel: all(left.cel, right.cel), is: boolean}
	case isOr && left.is == text && right.is == fixedText && left.absent:
		return typed{cel: cel{text: left.guard + " ? " + left.text + " : " + right.text, binds: conditional}, is: text, guard: left.guard, fixed: right.fixed}
	}
	return r.refuse("|| and && take two of true and false, and || a text that may be absent with a text in quotes")
}

// comparison translates == and !=.
func (r *reader) comparison(node jmespath.ASTNode) typed {
	left, right := r.read(node.Children[0]), r.read(node.Children[1])
	sign := map[string]string{"tEQ": "==", "tNE": "!="}[tokenName(node.Value)]
	switch {
	case left.is == unknown || right.is == unknown:
		return typed{}
	case sign == "":
		return r.refuse("of comparisons only == and != are known here")
	case left.absent || right.absent:
		return r.refuse("a field in it may be absent; write || '' behind it")
	case left.is.isText() != right.is.isText() || left.is != right.is && !left.is.isText():
		return r.refuse("it compares values of two types")
	case left.is == textList:
		return r.refuse("it compares lists")
	case right.is == fixedText && left.defaultsTo(right.fixed):
		present := cel{text: left.guard, binds: and}
		if sign == "!=" {
			return typed{cel: present, is: boolean}
		}
		return typed{cel: not(present), is: boolean}
	}
	return typed{cel: compare(left.within(relation), sign, right.within(relation)), is: boolean}
}

func tokenName(token any) string {
	if named, ok := token.(interface{ String() string }); ok {
		return named.String()
	}
	return ""
}

// function translates a call.
func (r *reader) function(node jmespath.ASTNode) typed {
	method := map[string]string{"starts_with": "startsWith", "ends_with": "endsWith", "contains": "contains"}[node.Value.(string)]
	if method == "" || len(node.Children) != 2 {
		return r.refuse("of functions only starts_with, ends_with and contains are known here")
	}
	subject, part := r.read(node.Children[0]), r.read(node.Children[1])
	switch {
	case subject.is == unknown || part.is == unknown:
		return typed{}
	case subject.absent || part.absent:
		return r.refuse("a field in it may be absent; write || '' behind it")
	case subject.is == textList && part.is.isText() && method == "contains":
		return typed{cel: compare(part.within(relation), "in", subject.text), is: boolean}
	case subject.is.isText() && part.is.isText():
		return typed{cel: called(subject.within(atom) + "." + method + "(" + part.text + ")"), is: boolean}
	}
	return r.refuse("the function takes texts")
}

// template translates a text with {{ }} in it. What is escaped as \{{ }} is text.
func template(v value, source string) typed {
	if strings.Contains(source, "$(") {
		v.fail("has $( ), a reference that Kyverno resolves; write its value instead")
		return typed{}
	}
	var parts []typed
	rest := source
	for {
		at := variable.FindStringSubmatchIndex(rest)
		if at == nil {
			break
		}
		if before := rest[:at[4]]; before != "" {
			parts = append(parts, plain(v, before))
		}
		inner := expression(v, strings.TrimSpace(rest[at[4]+2:at[5]-2]))
		if inner.is == unknown {
			return inner
		}
		if inner.absent {
			v.fail("has {{ %s }}, which may be absent; write || '' behind it", clip(strings.TrimSpace(rest[at[4]+2:at[5]-2])))
			return typed{}
		}
		parts, rest = append(parts, inner), rest[at[5]:]
	}
	if rest != "" || len(parts) == 0 {
		parts = append(parts, plain(v, rest))
	}
	return joined(v, parts)
}

// joined puts the parts of a text together.
func joined(v value, parts []typed) typed {
	if len(parts) == 1 {
		return parts[0]
	}
	texts := make([]string, len(parts))
	for i, part := range parts {
		if !part.is.isText() {
			v.fail("puts what is no text into a text")
			return typed{}
		}
		texts[i] = part.within(relation)
	}
	return typed{cel: cel{text: strings.Join(texts, " + "), binds: relation}, is: text}
}

// plain is the text beside expressions, without the backslashes that keep Kyverno from taking a part of it for one.
func plain(v value, source string) typed {
	if strings.Contains(strings.ReplaceAll(source, `\{{`, ""), "{{") {
		v.fail("has {{ without }}, or one expression within another; write them one by one")
	}
	text := strings.ReplaceAll(source, `\{{`, `{{`)
	return typed{cel: called(literal(text)), is: fixedText, fixed: text}
}
