package condition

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kyverno/go-jmespath"
)

// maxNesting bounds the nesting of expressions.
const maxNesting = 1000

// parse parses an expression.
func (e *evaluation) parse(expression string) jmespath.ASTNode {
	nesting := 0
	for i := range len(expression) {
		if strings.IndexByte("([{!&*", expression[i]) >= 0 {
			nesting++
		}
	}
	if nesting > maxNesting {
		refuse("the expression %q has over %d brackets and signs, and is not read", quoted(expression), maxNesting)
	}
	e.grow(400 * len(expression))
	e.step(20 * len(expression))
	node, err := jmespath.NewParser().Parse(expression)
	if err != nil {
		refuse("the expression %q does not compile: %s", quoted(expression), cut(strings.TrimPrefix(err.Error(), "SyntaxError: ")))
	}
	return node
}

// missing is the error of a member that does not exist.
type missing struct{ name string }

func (m missing) Error() string { return fmt.Sprintf("asks for %q, which is not there", m.name) }

// unevaluated is an expression (&) as an argument of a function.
type unevaluated struct{ node *jmespath.ASTNode }

// walk evaluates a node of an expression on a value, by the rules of JMESPath as Kyverno's version changes them.
func (e *evaluation) walk(node *jmespath.ASTNode, value any, depth int) (any, error) {
	if e.step(4); depth > maxNesting {
		refuse("an expression nests over a depth of %d", maxNesting)
	}
	depth++
	child := func(i int) *jmespath.ASTNode { return &node.Children[i] }
	switch node.NodeType {
	case jmespath.ASTIdentity, jmespath.ASTCurrentNode:
		return value, nil
	case jmespath.ASTLiteral:
		return node.Value, nil
	case jmespath.ASTField:
		return field(node, value)
	case jmespath.ASTKeyValPair:
		return e.walk(child(0), value, depth)
	case jmespath.ASTSubexpression, jmespath.ASTIndexExpression:
		left, err := e.walk(child(0), value, depth)
		if err != nil {
			return nil, err
		}
		return e.walk(child(1), left, depth)
	case jmespath.ASTIndex:
		return index(node, value), nil
	case jmespath.ASTSlice:
		return e.slice(node, value)
	case jmespath.ASTPipe, jmespath.ASTOrExpression, jmespath.ASTAndExpression, jmespath.ASTNotExpression:
		return e.logic(node, value, depth)
	case jmespath.ASTComparator:
		return e.comparator(node, value, depth)
	case jmespath.ASTMultiSelectList:
		return e.multiList(node, value, depth)
	case jmespath.ASTMultiSelectHash:
		return e.multiHash(node, value, depth)
	case jmespath.ASTFlatten:
		return e.flatten(node, value, depth)
	case jmespath.ASTProjection, jmespath.ASTFilterProjection, jmespath.ASTValueProjection:
		return e.projection(node, value, depth)
	case jmespath.ASTFunctionExpression:
		return e.function(node, value, depth)
	case jmespath.ASTExpRef:
		return nil, errors.New("fails: & stands where no function takes an expression")
	}
	return nil, errors.New("fails: it is incomplete")
}

// present is walk, with null for a missing member.
func (e *evaluation) present(node *jmespath.ASTNode, value any, depth int) (any, error) {
	result, err := e.walk(node, value, depth)
	if _, ok := err.(missing); ok {
		return nil, nil
	}
	return result, err
}

func field(node *jmespath.ASTNode, value any) (any, error) {
	object, ok := value.(map[string]any)
	if !ok {
		return nil, nil
	}
	name, _ := node.Value.(string)
	member, ok := object[name]
	if !ok {
		return nil, missing{name}
	}
	return member, nil
}

func index(node *jmespath.ASTNode, value any) any {
	list, _ := value.([]any)
	i, _ := node.Value.(int)
	if i < 0 {
		i += len(list)
	}
	if i < 0 || i >= len(list) {
		return nil
	}
	return list[i]
}

// slice gives a list's elements from start to before stop, in steps.
func (e *evaluation) slice(node *jmespath.ASTNode, value any) (any, error) {
	list, ok := value.([]any)
	if !ok {
		return nil, nil
	}
	parts, _ := node.Value.([]*int)
	step := 1
	if parts[2] != nil {
		step = *parts[2]
	}
	if step == 0 {
		return nil, errors.New("fails: the step of a slice is 0")
	}
	first, last := 0, len(list)
	if step < 0 {
		first, last = len(list)-1, -1
	}
	start, stop := within(parts[0], first, len(list), step), within(parts[1], last, len(list), step)
	step = max(min(step, len(list)+1), -len(list)-1)
	e.list(len(list))
	taken := []any{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		taken = append(taken, list[i])
	}
	return taken, nil
}

// within limits a bound of a slice to the list.
func within(part *int, absent, length, step int) int {
	if part == nil {
		return absent
	}
	at := *part
	if at < 0 {
		at += length
	}
	if step < 0 {
		return max(min(at, length-1), -1)
	}
	return max(min(at, length), 0)
}

func (e *evaluation) logic(node *jmespath.ASTNode, value any, depth int) (any, error) {
	left, err := e.present(&node.Children[0], value, depth)
	if err != nil {
		return nil, err
	}
	switch node.NodeType {
	case jmespath.ASTNotExpression:
		return isFalse(left), nil
	case jmespath.ASTPipe:
		return e.present(&node.Children[1], left, depth)
	case jmespath.ASTOrExpression:
		if !isFalse(left) {
			return left, nil
		}
		return e.present(&node.Children[1], value, depth)
	}
	if isFalse(left) {
		return left, nil
	}
	return e.walk(&node.Children[1], value, depth)
}

// isFalse tells whether a value counts as false: false, null, and empty strings, lists and objects.
func isFalse(value any) bool {
	switch v := value.(type) {
	case bool:
		return !v
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return value == nil
}

func (e *evaluation) comparator(node *jmespath.ASTNode, value any, depth int) (any, error) {
	left, err := e.present(&node.Children[0], value, depth)
	if err != nil {
		return nil, err
	}
	right, err := e.present(&node.Children[1], value, depth)
	if err != nil {
		return nil, err
	}
	operator := ""
	if name, ok := node.Value.(fmt.Stringer); ok {
		operator = name.String()
	}
	switch operator {
	case "tEQ":
		return e.equal(left, right), nil
	case "tNE":
		return !e.equal(left, right), nil
	}
	x, ok := left.(float64)
	y, other := right.(float64)
	if !ok || !other {
		return nil, nil
	}
	switch operator {
	case "tGT":
		return x > y, nil
	case "tGTE":
		return x >= y, nil
	case "tLT":
		return x < y, nil
	case "tLTE":
		return x <= y, nil
	}
	return nil, errors.New("fails: its comparison is unknown")
}

func (e *evaluation) multiList(node *jmespath.ASTNode, value any, depth int) (any, error) {
	if value == nil {
		return nil, nil
	}
	e.list(len(node.Children))
	collected := make([]any, len(node.Children))
	for i := range node.Children {
		element, err := e.present(&node.Children[i], value, depth)
		if err != nil {
			return nil, err
		}
		collected[i] = element
	}
	return collected, nil
}

func (e *evaluation) multiHash(node *jmespath.ASTNode, value any, depth int) (any, error) {
	if value == nil {
		return nil, nil
	}
	e.object(len(node.Children))
	collected := make(map[string]any, len(node.Children))
	for i := range node.Children {
		member, err := e.present(&node.Children[i], value, depth)
		if err != nil {
			return nil, err
		}
		name, _ := node.Children[i].Value.(string)
		collected[name] = member
	}
	return collected, nil
}

// flatten replaces the lists in a list by their elements. As in Kyverno, an error in the expression before it gives null.
func (e *evaluation) flatten(node *jmespath.ASTNode, value any, depth int) (any, error) {
	left, err := e.walk(&node.Children[0], value, depth)
	list, ok := left.([]any)
	if err != nil || !ok {
		return nil, nil
	}
	n := 0
	for _, element := range list {
		inner, ok := element.([]any)
		if n++; ok {
			n += len(inner) - 1
		}
	}
	e.step(2*len(list) + n/2)
	e.list(n)
	flat := make([]any, 0, n)
	for _, element := range list {
		if inner, ok := element.([]any); ok {
			flat = append(flat, inner...)
		} else {
			flat = append(flat, element)
		}
	}
	return flat, nil
}

// projection evaluates an expression for each element of a list or member of an object, and keeps the results that are not
// null. As in Kyverno, an error in the expression before a filter or an object projection gives null.
func (e *evaluation) projection(node *jmespath.ASTNode, value any, depth int) (any, error) {
	left, err := e.walk(&node.Children[0], value, depth)
	if _, absent := err.(missing); err != nil && !absent && node.NodeType == jmespath.ASTProjection {
		return nil, err
	}
	if err != nil {
		return nil, nil
	}
	list, ok := left.([]any)
	if node.NodeType == jmespath.ASTValueProjection {
		list, ok = e.members(left)
	}
	if !ok {
		return nil, nil
	}
	collected := []any{}
	e.list(0)
	for _, element := range list {
		if node.NodeType == jmespath.ASTFilterProjection {
			chosen, err := e.present(&node.Children[2], element, depth)
			if err != nil {
				return nil, err
			}
			if isFalse(chosen) {
				continue
			}
		}
		current, err := e.present(&node.Children[1], element, depth)
		if err != nil {
			return nil, err
		}
		if current != nil {
			e.grow(2 * slotBytes) // twice, since the list is copied as it grows
			collected = append(collected, current)
		}
	}
	return collected, nil
}

// members gives an object's members in the order of their names.
func (e *evaluation) members(value any) ([]any, bool) {
	object, ok := value.(map[string]any)
	if !ok {
		return nil, false
	}
	e.list(len(object))
	members := make([]any, 0, len(object))
	for _, name := range e.names(object) {
		members = append(members, object[name])
	}
	return members, true
}

// function evaluates the arguments of a function and calls it.
func (e *evaluation) function(node *jmespath.ASTNode, value any, depth int) (any, error) {
	name, ok := node.Value.(string)
	if !ok {
		return nil, errors.New("fails: what is called has no name")
	}
	f, ok := e.functions[name]
	if !ok {
		return nil, fmt.Errorf("fails: unknown function: %s", cut(name))
	}
	e.list(len(node.Children))
	arguments := make([]any, len(node.Children))
	for i := range node.Children {
		if node.Children[i].NodeType == jmespath.ASTExpRef {
			arguments[i] = unevaluated{&node.Children[i].Children[0]}
			continue
		}
		argument, err := e.present(&node.Children[i], value, depth)
		if err != nil {
			return nil, err
		}
		arguments[i] = argument
	}
	if err := f.check(e, arguments); err != nil {
		return nil, err
	}
	return f.call(e, arguments, depth)
}
