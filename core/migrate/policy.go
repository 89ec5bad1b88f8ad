package migrate

import (
	"regexp"
	"strings"

	"github.com/samber/lo"
)

// clusterPolicy is a ClusterPolicy as far as it can be carried over.
type clusterPolicy struct {
	at                  value
	name                string
	labels, annotations map[string]string
	autogen             string // the annotation; "" where there is none
	ignore              bool   // failurePolicy is Ignore
	timeout             int    // of the webhook, seconds; 0 where there is none
	action              string
	overrides           *value
	conditions          []condition // of the webhook, in CEL
	rules               []rule
}

const autogenAnnotation = "pod-policies.kyverno.io/autogen-controllers"

func (t *translation) readPolicy(v value) clusterPolicy {
	p := clusterPolicy{at: v}
	v.object(fields{
		"apiVersion": nil, "kind": nil, "status": nil,
		"metadata": p.readMetadata,
		"spec":     func(v value) { v.object(t.specFields(&p)) },
	})
	if !dns.MatchString(p.name) {
		v.fail("has no name that Kubernetes takes")
	}
	if len(p.rules) == 0 {
		v.fail("has no rules")
	}
	return p
}

func (p *clusterPolicy) readMetadata(v value) {
	v.object(fields{
		"name":   func(v value) { p.name = v.text() },
		"labels": func(v value) { p.labels = readTexts(v) },
		"annotations": func(v value) {
			p.annotations = readTexts(v)
			p.autogen = p.annotations[autogenAnnotation]
			p.annotations = lo.OmitByKeys(p.annotations, []string{autogenAnnotation, "kubectl.kubernetes.io/last-applied-configuration"})
		},
		// What an API server writes.
		"uid": nil, "resourceVersion": nil, "generation": nil, "creationTimestamp": nil, "managedFields": nil, "selfLink": nil,
	})
}

func readTexts(v value) map[string]string {
	all := map[string]string{}
	v.entries(func(key string, text value) { all[key] = text.text() })
	return all
}

func (t *translation) specFields(p *clusterPolicy) fields {
	failurePolicy := func(v value) { p.ignore = v.choice("Fail", "Ignore") == "Ignore" }
	timeout := func(v value) { p.timeout = v.number(1, 30) }
	onlyTrue := func(v value) {
		if !v.boolean() {
			v.fail("is false, so the policy does nothing at admission; remove it")
		}
	}
	ignored := func(v value) { v.boolean() } // about rules of other kinds, or about reports
	return fields{
		"rules":         func(v value) { v.list(func(v value) { p.rules = append(p.rules, t.readRule(v)) }) },
		"failurePolicy": failurePolicy, "webhookTimeoutSeconds": timeout,
		"webhookConfiguration": func(v value) {
			v.object(fields{
				"failurePolicy": failurePolicy, "timeoutSeconds": timeout,
				"matchConditions": func(v value) { v.list(func(v value) { p.conditions = append(p.conditions, readMatchCondition(v)) }) },
			})
		},
		"validationFailureAction":          func(v value) { p.action = v.choice(actions...) },
		"validationFailureActionOverrides": func(v value) { p.overrides = &v },
		"applyRules": func(v value) {
			rules := child(child(p.at.node, "spec"), "rules")
			if v.choice("All", "One") == "One" && rules != nil && len(rules.Content) > 1 {
				v.fail("is One, so a rule depends on those before it; make a policy for each rule that excludes what the others match")
			}
		},
		"admission":  onlyTrue,
		"background": ignored, "schemaValidation": ignored, "emitWarning": ignored, "useServerSideApply": ignored,
		"mutateExistingOnPolicyUpdate": ignored, "generateExisting": ignored, "generateExistingOnPolicyUpdate": ignored,
	}
}

// condition is an entry of matchConditions.
type condition struct {
	Name       string `yaml:"name"`
	Expression string `yaml:"expression"`
}

var (
	ownWord    = regexp.MustCompile(`\bobject\b|\brequest\s*\.\s*(name|options)\b`)
	authorizer = regexp.MustCompile(`\bauthorizer\b`)
)

// readMatchCondition takes a condition that is CEL already, unless it could go by what an object says of itself.
func readMatchCondition(v value) (c condition) {
	v.object(fields{
		"name": func(v value) {
			if c.Name = v.text(); c.Name == "match" || c.Name == "exclude" || strings.HasPrefix(c.Name, "precondition-") {
				v.fail("is a name that the new policies use; write another")
			}
			if !labelName.MatchString(c.Name) {
				v.fail("is %s, which no condition of a webhook is called; write letters, digits and -", quoted(c.Name))
			}
		},
		"expression": func(v value) {
			c.Expression = v.text()
			if authorizer.MatchString(c.Expression) {
				v.fail("names authorizer, which Kyverno's CEL does not have; go by request.userInfo")
			}
			if claim := ownWord.FindString(c.Expression); claim != "" {
				v.fail("names %s, by which whoever writes the object could exempt it; go by request.namespace, request.userInfo or oldObject", claim)
			}
		},
	})
	if c.Name == "" || c.Expression == "" {
		v.fail("needs a name and an expression")
	}
	return c
}
