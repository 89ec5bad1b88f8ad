package core

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/go-logr/logr"
	gojmespath "github.com/kyverno/go-jmespath"
	kyverno "github.com/kyverno/kyverno/api/kyverno/v1"
	"github.com/kyverno/kyverno/pkg/config"
	"github.com/kyverno/kyverno/pkg/engine/jmespath"
	"github.com/kyverno/kyverno/pkg/engine/variables"
	"github.com/kyverno/kyverno/pkg/engine/variables/operator"
	"github.com/samber/lo"
)

// evaluate holds conditions against a JSON payload with Kyverno's own substitution and operators. It gives nil
// when they are met. Every call has its own data and functions, so that nothing is shared between requests.
func evaluate(conditions Conditions, payload []byte, now time.Time) *Finding {
	var document any
	if err := json.Unmarshal(payload, &document); err != nil {
		return &Finding{AttestationInvalid, fmt.Sprintf("its payload is not JSON: %v", err)}
	}
	e := evaluation{data: visible(document), functions: functionsAt(now)}
	return e.conditions(conditions)
}

// visible is what expressions see: the payload's members, and the whole payload as "element".
func visible(document any) map[string]any {
	data := map[string]any{}
	if object, ok := document.(map[string]any); ok {
		maps.Copy(data, object)
	}
	data["element"] = document
	return data
}

// conditions demands one of Any, where there are any, and each of All.
func (e *evaluation) conditions(c Conditions) *Finding {
	var unmet []Finding
	for _, condition := range c.Any {
		finding := e.condition(condition)
		if finding == nil {
			unmet = nil
			break
		}
		if finding.Code == ConditionInvalid {
			return finding
		}
		unmet = append(unmet, *finding)
	}
	if len(unmet) > 0 {
		return &Finding{ConditionUnmet, "none of the conditions under any is met: " + reasons(unmet)}
	}
	for _, condition := range c.All {
		if finding := e.condition(condition); finding != nil {
			return finding
		}
	}
	return nil
}

func (e *evaluation) condition(c Condition) (finding *Finding) {
	defer func() {
		if r := recover(); r != nil { // a function of the expression language met arguments it does not expect
			finding = &Finding{ConditionInvalid, fmt.Sprintf("the condition on %s cannot be evaluated: %v", written(c.Key), r)}
		}
	}()
	key, err := e.substitute(c.Key)
	if err != nil {
		return &Finding{ConditionInvalid, fmt.Sprintf("the condition's key %s cannot be evaluated: %v", written(c.Key), err)}
	}
	value, err := e.substitute(c.Value)
	if err != nil {
		return &Finding{ConditionInvalid, fmt.Sprintf("the value %s of the condition on %s cannot be evaluated: %v", written(c.Value), written(c.Key), err)}
	}
	handler := operator.CreateOperatorHandler(logr.Discard(), e, kyverno.ConditionOperator(c.Operator))
	if handler == nil {
		return &Finding{ConditionInvalid, fmt.Sprintf("the condition on %s has the unknown operator %q", written(c.Key), c.Operator)}
	}
	if handler.Evaluate(key, value) {
		return nil
	}
	return unmet(c, key, value)
}

func unmet(c Condition, found, wanted any) *Finding {
	reason := fmt.Sprintf("the condition on %s is not met: found %s, wanted %s %s", written(c.Key), shown(found), c.Operator, shown(wanted))
	if c.Message != "" {
		reason += ": " + c.Message
	}
	return &Finding{ConditionUnmet, reason}
}

// evaluation answers the expressions of one attestation's conditions. It is Kyverno's EvalInterface over the
// payload alone.
type evaluation struct {
	data      map[string]any
	functions *gojmespath.FunctionCaller
	queries   int // of the expression under way
}

// Bounds on what one key or value may ask for. Kyverno resolves expressions in what an expression gave as well,
// so that a payload could otherwise keep it busy for ever.
const (
	maxQueries = 100
	maxNested  = 64 << 10 // bytes of a string that holds {{ itself
)

func (e *evaluation) substitute(raw json.RawMessage) (any, error) {
	e.queries = 0
	var document any
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &document); err != nil {
			return nil, err
		}
	}
	return variables.SubstituteAllInPreconditions(logr.Discard(), e, document)
}

// Query evaluates a JMESPath expression.
func (e *evaluation) Query(query string) (any, error) {
	if e.queries++; e.queries > maxQueries {
		return nil, fmt.Errorf("it needs more than %d expressions to be resolved", maxQueries)
	}
	if strings.TrimSpace(query) == "" {
		return nil, errors.New("the expression is empty")
	}
	compiled, err := gojmespath.Compile(strings.TrimSpace(query))
	if err != nil {
		return nil, fmt.Errorf("the expression %q does not compile: %w", query, err)
	}
	result, err := compiled.Search(e.data, gojmespath.WithFunctionCaller(e.functions))
	if err != nil {
		return nil, err
	}
	if text, ok := result.(string); ok && len(text) > maxNested && strings.Contains(text, "{{") {
		return nil, fmt.Errorf("the expression %q gives text of %d bytes with {{ in it", query, len(text))
	}
	return result, nil
}

// QueryOperation is part of Kyverno's interface: no admission operation is known here.
func (e *evaluation) QueryOperation() string { return "" }

// HasChanged is part of Kyverno's interface: there is no old object to compare with.
func (e *evaluation) HasChanged(string) (bool, error) {
	return false, errors.New("an attestation has no earlier version to compare with")
}

// functionsAt gives Kyverno's JMESPath functions, with those that read the clock reading now instead, and
// without the one that asks the network.
func functionsAt(now time.Time) *gojmespath.FunctionCaller {
	caller := gojmespath.NewFunctionCaller()
	for _, function := range jmespath.GetFunctions(config.NewDefaultConfiguration(false)) {
		entry := function.FunctionEntry
		switch entry.Name {
		case "time_now":
			entry.Handler = func([]any) (any, error) { return now.Format(time.RFC3339), nil }
		case "time_now_utc":
			entry.Handler = func([]any) (any, error) { return now.UTC().Format(time.RFC3339), nil }
		case "time_since":
			entry.Handler = sinceAt(now, entry.Handler)
		case "is_external_url":
			entry.Handler = func([]any) (any, error) {
				return nil, errors.New("is_external_url asks the network and is not available here")
			}
		}
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
		return text
	}
	return cut(string(raw))
}

// shown shows a value found or wanted.
func shown(value any) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // the reader is a terminal
	if err := encoder.Encode(value); err != nil {
		return fmt.Sprintf("a %T", value)
	}
	return cut(strings.TrimSpace(text.String()))
}

// cut keeps the first 200 characters.
func cut(s string) string {
	const most = 200
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "..."
	}
	return s
}
