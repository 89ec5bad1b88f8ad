package core

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"

	"github.com/go-logr/logr"
	gojmespath "github.com/kyverno/go-jmespath"
	kyverno "github.com/kyverno/kyverno/api/kyverno/v1"
	"github.com/kyverno/kyverno/pkg/config"
	"github.com/kyverno/kyverno/pkg/engine/jmespath"
	"github.com/kyverno/kyverno/pkg/engine/variables"
	"github.com/kyverno/kyverno/pkg/engine/variables/operator"
	"github.com/kyverno/kyverno/pkg/engine/variables/regex"
	"github.com/samber/lo"
)

// evaluate holds conditions against a JSON payload with Kyverno's own substitution and operators. It gives nil
// when they are met. Every call has its own data and functions, so that nothing is shared between requests.
func evaluate(conditions Conditions, payload []byte, clock *clock) *Finding {
	var document any
	if err := json.Unmarshal(payload, &document); err != nil {
		return &Finding{AttestationInvalid, fmt.Sprintf("its payload is not JSON: %v", err)}
	}
	e := evaluation{data: visible(document), functions: functionsAt(clock)}
	e.given.add(e.data)
	finding := e.conditions(conditions)
	if finding != nil {
		finding.Reason = Clip(finding.Reason, maxReason)
	}
	return finding
}

// maxReason bounds what is told of conditions that are not met, bytes.
const maxReason = 10 * MaxWords

// visible is what expressions see: the payload's members, and the whole payload as "element".
func visible(document any) map[string]any {
	data := map[string]any{}
	if object, ok := document.(map[string]any); ok {
		maps.Copy(data, object)
	}
	data["element"] = document
	return data
}

// conditions demands one of Any, where there are any, and each of All. It lists every condition that fails. Its
// code is Kyverno's answer: an expression that cannot be evaluated is an error, unless a condition before it in
// All has decided already.
func (e *evaluation) conditions(c Conditions) *Finding {
	some := e.oneOf(c.Any)
	if some != nil && some.Code == ConditionInvalid {
		return some
	}
	each := e.each(c.All)
	switch {
	case some == nil:
		return each
	case each == nil:
		return some
	}
	return &Finding{each.Code, some.Reason + "; and " + each.Reason}
}

// oneOf demands one of the conditions, where there are any.
func (e *evaluation) oneOf(conditions []Condition) *Finding {
	var unmet []string
	for _, condition := range conditions {
		finding := e.condition(condition)
		if finding == nil {
			return nil
		}
		if finding.Code == ConditionInvalid {
			return finding
		}
		unmet = append(unmet, finding.Reason)
	}
	switch len(unmet) {
	case 0:
		return nil
	case 1:
		return &Finding{ConditionUnmet, unmet[0]}
	}
	return &Finding{ConditionUnmet, fmt.Sprintf("none of the %d conditions under any is met: %s", len(unmet), strings.Join(unmet, "; "))}
}

// each demands all of the conditions.
func (e *evaluation) each(conditions []Condition) *Finding {
	var failed []Finding
	for _, condition := range conditions {
		if finding := e.condition(condition); finding != nil {
			failed = append(failed, *finding)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	texts := lo.Map(failed, func(f Finding, _ int) string { return f.Reason })
	return &Finding{failed[0].Code, strings.Join(texts, "; ")}
}

func (e *evaluation) condition(c Condition) (finding *Finding) {
	defer func() {
		if r := recover(); r != nil { // a function of the expression language met arguments it does not expect
			finding = &Finding{ConditionInvalid, fmt.Sprintf("the condition on %s cannot be evaluated: %s", written(c.Key), cut(fmt.Sprint(r)))}
		}
	}()
	key, err := e.substitute(c.Key)
	if err != nil {
		return &Finding{ConditionInvalid, fmt.Sprintf("the condition on %s cannot be evaluated: %v", written(c.Key), err)}
	}
	value, err := e.substitute(c.Value)
	if err != nil {
		return &Finding{ConditionInvalid, fmt.Sprintf("the condition on %s cannot be evaluated, because of its value %s: %v", written(c.Key), written(c.Value), err)}
	}
	handler := operator.CreateOperatorHandler(logr.Discard(), e, kyverno.ConditionOperator(c.Operator))
	if handler == nil {
		return &Finding{ConditionInvalid, fmt.Sprintf("the condition on %s has the unknown operator %q", written(c.Key), c.Operator)}
	}
	if handler.Evaluate(key, value) {
		return nil
	}
	return unmet(c, offending(handler, c.Operator, key, value), value)
}

func unmet(c Condition, found string, wanted any) *Finding {
	reason := fmt.Sprintf("the condition on %s is not met: found %s, wanted %s %s", written(c.Key), found, c.Operator, shown(wanted))
	if c.Message != "" {
		reason += ": " + c.Message
	}
	return &Finding{ConditionUnmet, reason}
}

// offending shows the value found. Of a list that is too long to be shown, where each element is held against
// the value, it shows the elements that fail: the one licence of a thousand is what the reader looks for.
func offending(handler operator.OperatorHandler, name string, found, wanted any) string {
	list, ok := found.([]any)
	eachCounts := strings.EqualFold(name, "AllIn") || strings.EqualFold(name, "AllNotIn")
	if !ok || !eachCounts || !strings.HasSuffix(shown(found), "...") {
		return shown(found)
	}
	failing := lo.Filter(list, func(element any, _ int) bool { return !handler.Evaluate([]any{element}, wanted) })
	if len(failing) == 0 || len(failing) == len(list) {
		return shown(found)
	}
	distinct := lo.UniqBy(failing, shown)
	return fmt.Sprintf("%s among %d values", shown(distinct), len(list))
}

// evaluation answers the expressions of one attestation's conditions. It is Kyverno's EvalInterface over the
// payload alone.
type evaluation struct {
	data      map[string]any
	functions *gojmespath.FunctionCaller
	given     size // of data

	// Of the key or value under way.
	whole   map[string]bool // the expressions that stand alone, so that their result is not text in a text
	queries int
	results size  // of all expressions together
	texts   int   // bytes and values that they put into texts
	failure error // of the last query
}

// Bounds on what one key or value may ask for.
const (
	maxQueries    = 100
	maxExpression = 64 << 10 // bytes
)

func (e *evaluation) substitute(raw json.RawMessage) (any, error) {
	document, err := decoded(raw)
	if err != nil {
		return nil, err
	}
	e.queries, e.results, e.texts, e.failure, e.whole = 0, size{}, 0, nil, map[string]bool{}
	e.findWhole(document)
	result, err := variables.SubstituteAllInPreconditions(logr.Discard(), e, document)
	if err != nil && e.failure != nil {
		return nil, e.failure // without the words that Kyverno puts around it
	}
	return unsealed(result), err
}

// sealed is a list or an object that an expression gave. Kyverno would look for expressions in its texts as well,
// which here are the payload's: sealed keeps it out.
type sealed struct{ value any }

// MarshalJSON is the value's, for where it stands inside a text.
func (s sealed) MarshalJSON() ([]byte, error) { return json.Marshal(s.value) }

// unsealed is a document with the values that expressions gave.
func unsealed(document any) any {
	switch d := document.(type) {
	case sealed:
		return d.value
	case []any:
		return lo.Map(d, func(element any, _ int) any { return unsealed(element) })
	case map[string]any:
		return lo.MapValues(d, func(member any, _ string) any { return unsealed(member) })
	}
	return document
}

// decoded is a key or value as Kyverno decodes it: integers within lists and objects stay integers, while those
// of payloads do not. It shows where Kyverno compares their texts, 1234567 and 1.234567e+06.
func decoded(raw json.RawMessage) (any, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var condition kyverno.Condition
	if err := json.Unmarshal(fmt.Appendf(nil, `{"key": %s}`, raw), &condition); err != nil {
		return nil, err
	}
	return condition.GetKey(), nil
}

// findWhole notes the expressions that are the whole of a text. One that also stands inside another text is not.
func (e *evaluation) findWhole(document any) {
	switch d := document.(type) {
	case string:
		for _, match := range regex.RegexVariables.FindAllStringSubmatch(d, -1) {
			query := strings.TrimSpace(strings.NewReplacer("{{", "", "}}", "").Replace(match[2]))
			query = strings.TrimSpace(strings.TrimPrefix(query, "-"))
			known, seen := e.whole[query]
			e.whole[query] = match[2] == d && (known || !seen)
		}
	case []any:
		for _, element := range d {
			e.findWhole(element)
		}
	case map[string]any:
		for key, member := range d {
			e.findWhole(key)
			e.findWhole(member)
		}
	}
}

// Query evaluates a JMESPath expression.
func (e *evaluation) Query(query string) (any, error) {
	var result any
	result, e.failure = e.query(strings.TrimSpace(query))
	return result, e.failure
}

func (e *evaluation) query(query string) (any, error) {
	if e.queries++; e.queries > maxQueries {
		return nil, fmt.Errorf("it holds more than %d expressions", maxQueries)
	}
	switch {
	case query == "":
		return nil, errors.New("the expression is empty")
	case len(query) > maxExpression:
		return nil, fmt.Errorf("the expression is %d bytes; at most %d are read", len(query), maxExpression)
	}
	compiled, err := gojmespath.NewParser().Parse(query)
	if err != nil {
		return nil, fmt.Errorf("the expression %q does not compile: %s", told(query), strings.TrimPrefix(err.Error(), "SyntaxError: "))
	}
	// Before it is made: the library has no bounds.
	if n := copies(compiled); n > fewTimes && n > maxMultiple/e.given.values {
		return nil, fmt.Errorf("the expression %q names the payload too often; select what it needs of it first", told(query))
	}
	result, err := gojmespath.NewInterpreter().Execute(compiled, e.data, gojmespath.WithFunctionCaller(e.functions))
	if err != nil {
		return nil, searchError(query, err)
	}
	if err := e.bound(query, result); err != nil {
		return nil, err
	}
	// Kyverno resolves what an expression gave once more when it stands inside a text. Here that would let the
	// payload, which strangers may have a hand in, write expressions; see sealed.
	if !e.whole[query] && mentions(result, "{{") {
		return nil, fmt.Errorf("the expression %q gives text with {{ in it; let the expression be the whole key or value", told(query))
	}
	switch result.(type) {
	case []any, map[string]any:
		return sealed{result}, nil
	}
	return result, nil
}

// bound takes account of an expression's result.
func (e *evaluation) bound(query string, result any) error {
	var s size
	s.add(result)
	e.results = size{e.results.values + s.values, e.results.bytes + s.bytes}
	if e.results.over() {
		return fmt.Errorf("the expression %q gives too much; select a part of it", told(query))
	}
	if e.whole[query] {
		return nil
	}
	if e.texts += s.values + s.bytes; e.texts > maxInText {
		return fmt.Errorf("the expression %q gives what is too large to stand inside a text; let it be the whole key or value", told(query))
	}
	return nil
}

// How the library words what it cannot do.
var (
	missingPattern = regexp.MustCompile(`(?s)^Unknown key (".*") in path$`)
	typePattern    = regexp.MustCompile(`(?s)^Invalid type for: (.*), expected: \[\]jmespath\.JpType\{(.*)\}$`)
)

// searchError speaks of the payload and of JSON where the library speaks of paths and of Go.
func searchError(query string, err error) error {
	var missing gojmespath.NotFoundError
	if match := missingPattern.FindStringSubmatch(err.Error()); match != nil && errors.As(err, &missing) {
		return fmt.Errorf("the expression %q asks for %s, which the payload does not have there", told(query), match[1])
	}
	if match := typePattern.FindStringSubmatch(err.Error()); match != nil {
		return fmt.Errorf("the expression %q gives a function %s, which takes %s", told(query), cut(strings.ReplaceAll(match[1], "<nil>", "null")), match[2])
	}
	return fmt.Errorf("the expression %q fails: %s", told(query), cut(err.Error()))
}

// told is an expression as errors tell it.
func told(query string) string { return Clip(query, MaxWords) }

// QueryOperation is part of Kyverno's interface: no admission operation is known here.
func (e *evaluation) QueryOperation() string { return "" }

// HasChanged is part of Kyverno's interface: there is no old object to compare with.
func (e *evaluation) HasChanged(string) (bool, error) {
	return false, errors.New("an attestation has no earlier version to compare with")
}

// clock is the time that expressions see.
type clock struct {
	now  time.Time
	read bool // an expression asked for the time, or for chance: its outcome does not hold for another moment
}

// reading marks the clock as read when the function is called.
func (c *clock) reading(function gojmespath.JpFunction) gojmespath.JpFunction {
	return func(arguments []any) (any, error) {
		c.read = true
		return function(arguments)
	}
}

// functionsAt gives Kyverno's JMESPath functions, with those that read the time reading the clock instead, and
// without the one that asks the network.
func functionsAt(clock *clock) *gojmespath.FunctionCaller {
	caller := gojmespath.NewFunctionCaller()
	now := clock.now
	for _, function := range jmespath.GetFunctions(config.NewDefaultConfiguration(false)) {
		entry := function.FunctionEntry
		switch entry.Name {
		case "time_now":
			entry.Handler = clock.reading(func([]any) (any, error) { return now.Format(time.RFC3339), nil })
		case "time_now_utc":
			entry.Handler = clock.reading(func([]any) (any, error) { return now.UTC().Format(time.RFC3339), nil })
		case "time_since":
			entry.Handler = clock.reading(sinceAt(now, entry.Handler))
		case "random":
			entry.Handler = clock.reading(entry.Handler)
		case "is_external_url":
			entry.Handler = func([]any) (any, error) {
				return nil, errors.New("is_external_url asks the network and is not available here")
			}
		}
		entry.Handler = measured(entry.Name, entry.Handler)
		caller.Register(entry)
	}
	for _, entry := range builtIn() {
		caller.Register(entry)
	}
	return caller
}

// sinceAt ends the time span at now where the expression leaves its end to the clock.
func sinceAt(now time.Time, since gojmespath.JpFunction) gojmespath.JpFunction {
	return func(arguments []any) (any, error) {
		if len(arguments) != 3 || arguments[2] != "" {
			return since(arguments)
		}
		layout, _ := arguments[0].(string)
		start, _ := arguments[1].(string)
		from, err := time.Parse(lo.CoalesceOrEmpty(layout, time.RFC3339), start)
		if err != nil {
			return nil, err
		}
		return now.Sub(from).String(), nil
	}
}

// written shows a condition's part as its author wrote it.
func written(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return Clip(text, MaxWords)
	}
	return cut(string(raw))
}

// shown shows a value found or wanted.
func shown(value any) string {
	var e excerpt
	e.write(value)
	return cut(e.text.String())
}

func encoded(value any) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // the reader is a terminal
	if err := encoder.Encode(value); err != nil {
		return fmt.Sprintf("a %T", value)
	}
	return strings.TrimSpace(text.String())
}

// maxShown is how much of a value is shown; characters.
const maxShown = 200

// cut keeps the first characters of a text that is too long to be shown.
func cut(s string) string {
	if runes := []rune(s); len(runes) > maxShown {
		return string(runes[:maxShown]) + "..."
	}
	return s
}
