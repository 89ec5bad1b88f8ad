package condition_test

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/condition"
)

func ExampleEvaluate() {
	conditions := condition.Conditions{All: []condition.Condition{{
		Key:      json.RawMessage(`"{{ vulnerabilities[?severity == 'critical'] | length(@) }}"`),
		Operator: "Equals",
		Value:    json.RawMessage(`0`),
		Message:  "fix critical vulnerabilities",
	}}}
	environment := condition.Environment{Now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}

	clean := condition.Evaluate(conditions, []byte(`{"vulnerabilities": [{"severity": "low"}]}`), environment)
	fmt.Println(clean.Outcome == condition.Met)

	critical := condition.Evaluate(conditions, []byte(`{"vulnerabilities": [{"severity": "critical"}]}`), environment)
	fmt.Println(critical.Outcome == condition.Unmet)
	fmt.Println(critical.Reason)
	// Output:
	// true
	// true
	// the condition on {{ vulnerabilities[?severity == 'critical'] | length(@) }} is not met: found 1, wanted Equals 0: fix critical vulnerabilities
}
