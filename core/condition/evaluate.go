package condition

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Evaluate evaluates conditions on a JSON document. Calls share no data, and the same arguments give the same result unless
// the request ends.
func Evaluate(conditions Conditions, document []byte, env Environment) Result {
	return newBudget(len(document), env.Ended).evaluate(conditions, document, env.Now)
}

func (b *budget) evaluate(conditions Conditions, document []byte, now time.Time) Result {
	e := &evaluation{budget: b, now: now, functions: library}
	steps, bytes := e.steps, e.bytes
	found := e.evaluate(conditions, document)
	result := Result{Outcome: Met, Met: e.met.list(), TimeDependent: e.timeDependent, Steps: steps - e.steps, Bytes: bytes - e.bytes}
	if found != nil {
		result.Outcome, result.Reason = found.outcome, reason.Clip(found.reason, maxReason)
	}
	return result
}

// finding says why conditions are not met; nil where they are.
type finding = stop

// evaluation is the state of one evaluation.
type evaluation struct {
	*budget
	now           time.Time
	timeDependent bool
	data          map[string]any // what expressions see

	functions map[string]function
	program   program // the regular expression of the last call
	met       met

	// State of the current key or value.
	expression string
	queries    int
	inTexts    int // bytes that expressions inserted into strings
}

func (e *evaluation) evaluate(conditions Conditions, document []byte) (found *finding) {
	defer func() {
		if stopped, ok := recovered(recover()); ok {
			if stopped.reason = "its payload cannot be read: " + stopped.reason; e.spent {
				stopped = stop{DocumentInvalid, "its payload cannot be read: it has more values than a document of its size may have; attach the part of it that conditions need"}
			}
			found = &stopped
		}
	}()
	decoded, err := decodeDocument(document, e.budget)
	var syntax errSyntax
	switch {
	case errors.As(err, &syntax):
		return &finding{DocumentInvalid, fmt.Sprintf("its payload is not JSON: %v", err)}
	case err != nil:
		return &finding{DocumentInvalid, fmt.Sprintf("its payload cannot be relied on: %v", err)}
	}
	e.see(decoded)
	return e.conditions(conditions)
}

// recovered is the stop of a panic. A panic of a library becomes an error of the condition.
func recovered(panicked any) (stop, bool) {
	if panicked == nil {
		return stop{}, false
	}
	if stopped, ok := panicked.(stop); ok {
		return stopped, true
	}
	return stop{Invalid, cut(fmt.Sprint(panicked))}, true
}

// see sets what expressions see: the document's members, and the whole document as "element".
func (e *evaluation) see(document any) {
	object, _ := document.(map[string]any)
	e.object(len(object) + 1)
	e.data = make(map[string]any, len(object)+1)
	for name, member := range object {
		e.step(10)
		e.data[name] = member
	}
	e.data["element"] = document
}

// conditions demands one of Any, where there are any, and each of All. It lists every condition that fails, up to maxReason.
// An expression that cannot be evaluated is an error, unless a condition before it in All has failed.
func (e *evaluation) conditions(c Conditions) *finding {
	some := e.oneOf(c.Any)
	if some != nil && some.outcome != Unmet {
		return some
	}
	each := e.each(c.All)
	switch {
	case some == nil:
		return each
	case each == nil:
		return some
	case each.outcome == Ended:
		return each
	}
	return &finding{each.outcome, some.reason + "; and " + each.reason}
}

// oneOf demands one of the conditions, where there are any.
func (e *evaluation) oneOf(conditions []Condition) *finding {
	var unmet reasons
	for _, condition := range conditions {
		found := e.condition(condition)
		if found == nil || found.outcome != Unmet {
			return found
		}
		unmet.add(found.reason)
	}
	switch len(conditions) {
	case 0:
		return nil
	case 1:
		return &finding{Unmet, unmet.String()}
	}
	return &finding{Unmet, fmt.Sprintf("none of the %d conditions under any is met: %s", len(conditions), unmet.String())}
}

// each demands all of the conditions.
func (e *evaluation) each(conditions []Condition) *finding {
	var first *finding
	var failed reasons
	for _, condition := range conditions {
		found := e.condition(condition)
		if found == nil {
			continue
		}
		if found.outcome == Ended {
			return found
		}
		if first == nil {
			first = found
		}
		if failed.add(found.reason); e.spent || failed.Len() > maxReason {
			break
		}
	}
	if first == nil {
		return nil
	}
	return &finding{first.outcome, failed.String()}
}

// reasons joins the reasons of several conditions up to maxReason.
type reasons struct{ strings.Builder }

func (r *reasons) add(text string) {
	if r.Len() > maxReason {
		return
	}
	if r.Len() > 0 {
		r.WriteString("; ")
	}
	r.WriteString(reason.Clip(text, maxReason))
}

func (e *evaluation) condition(c Condition) (found *finding) {
	side := ""
	defer func() {
		if stopped, ok := recovered(recover()); ok {
			if found = &stopped; stopped.outcome == Invalid {
				stopped.reason = fmt.Sprintf("the condition on %s cannot be evaluated%s: %s", written(c.Key), side, stopped.reason)
			}
		}
	}()
	e.step(1000)
	operator, ok := spelled(c.Operator)
	if !ok {
		return &finding{Invalid, fmt.Sprintf("the condition on %s has the unknown operator %q", written(c.Key), reason.Clip(c.Operator, maxShown))}
	}
	key := e.side(c.Key)
	side = ", because of its value " + written(c.Value)
	value := e.side(c.Value)
	side = ""
	comparison := comparison{e.budget, key.value, value.value, key.isPattern, value.isPattern}
	if comparison.holds(operator) {
		e.met.add(c, key.value, value.value)
		return nil
	}
	return e.unmet(c, comparison.offending(operator), value.value)
}

// met is what conditions that are met saw.
type met struct {
	said   []string
	bytes  int
	more   int     // that are not told
	budget *budget // of telling it, apart from that of the evaluation, whose outcome does not depend on it
}

// Bounds on what is told of conditions that are met.
const (
	maxMet      = 4096    // bytes, before the last one
	maxMetSteps = 1 << 19 // some ms
)

func (m *met) add(c Condition, found, wanted any) {
	if m.bytes > maxMet {
		m.more++
		return
	}
	if m.budget == nil {
		m.budget = &budget{steps: maxMetSteps, look: lookAt}
	}
	said := fmt.Sprintf("the condition on %s is met: found %s, wanted %s %s", written(c.Key), m.shown(found), c.Operator, m.shown(wanted))
	m.said, m.bytes = append(m.said, said), m.bytes+len(said)
}

// shown shows a value, unless that takes too long.
func (m *met) shown(value any) (text string) {
	defer func() {
		if _, ok := recovered(recover()); ok {
			text = "a value that takes long to show"
		}
	}()
	return m.budget.shown(value)
}

func (m *met) list() []string {
	if m.more > 0 {
		m.said, m.more = append(m.said, fmt.Sprintf("and %d more are met", m.more)), 0
	}
	return m.said
}

// side is a condition's key or value with its expressions resolved, and whether it and its elements were written without
// expressions.
type side struct {
	value    any
	plain    bool
	elements []bool // nil where no list was written
}

func (e *evaluation) side(raw json.RawMessage) side {
	if len(raw) == 0 {
		return side{}
	}
	written, err := decode(raw, e.budget)
	if err != nil {
		refuse("%v", err)
	}
	e.queries, e.inTexts = 0, 0
	s := side{value: e.resolve(written), plain: !hasExpression(written)}
	if list, ok := written.([]any); ok {
		s.elements = lo.Map(list, func(element any, _ int) bool { return !hasExpression(element) })
	}
	return s
}

// isPattern tells whether * and ? in element i are wildcards; -1 stands for the whole value.
func (s side) isPattern(i int) bool {
	if i >= 0 && i < len(s.elements) {
		return s.elements[i]
	}
	return s.plain
}

func hasExpression(written any) bool {
	switch w := written.(type) {
	case string:
		return strings.Contains(w, "{{") && expressionShape.MatchString(w)
	case []any:
		return lo.ContainsBy(w, hasExpression)
	case map[string]any:
		return lo.SomeBy(lo.Entries(w), func(member lo.Entry[string, any]) bool {
			return hasExpression(member.Key) || hasExpression(member.Value)
		})
	}
	return false
}

func (b *budget) unmet(c Condition, found string, wanted any) *finding {
	text := fmt.Sprintf("the condition on %s is not met: found %s, wanted %s %s", written(c.Key), found, c.Operator, b.shown(wanted))
	if c.Message != "" {
		text += ": " + reason.Clip(c.Message, maxReason)
	}
	return &finding{Unmet, text}
}

// maxDistinct bounds the different elements that are searched for those to show.
const maxDistinct = 100

// offending shows the value found. Of a list that is too long to show, whose elements are compared one by one, it shows the
// elements that fail, such as the one forbidden licence of a thousand.
func (c comparison) offending(operator string) string {
	list, ok := c.key.([]any)
	if !ok || operator != "AllIn" && operator != "AllNotIn" || !strings.HasSuffix(c.shown(list), "...") {
		return c.shown(c.key)
	}
	failing, distinct, known := 0, []any{}, map[string]bool{}
	for i, element := range list {
		one := comparison{c.budget, []any{element}, c.value, func(int) bool { return c.patternOfKey(i) }, c.patternOfValue}
		if one.holds(operator) {
			continue
		}
		failing++
		if text := c.shown(element); len(known) < maxDistinct && !known[text] {
			c.grow(len(text))
			known[text] = true
			distinct = append(distinct, element)
		}
	}
	if failing == 0 || failing == len(list) {
		return c.shown(list)
	}
	return fmt.Sprintf("%s among %d values", c.shown(distinct), len(list))
}
