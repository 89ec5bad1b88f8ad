package migrate

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/samber/lo"
	"go.yaml.in/yaml/v3"
)

// Pair is what one rule of a ClusterPolicy becomes.
type Pair struct {
	Policy, Rule string
	Line         int      // of the rule
	Notes        []string // what was left out and why that decides nothing, and what whoever reads it should know

	policies []policy // a MutatingPolicy, unless the rule only validates, and a ValidatingPolicy
}

// policy is a MutatingPolicy or ValidatingPolicy, its fields in the order of the samples.
type policy struct {
	APIVersion string     `yaml:"apiVersion"`
	Kind       string     `yaml:"kind"`
	Metadata   metadata   `yaml:"metadata"`
	Spec       policySpec `yaml:"spec"`
}

type metadata struct {
	Name        string            `yaml:"name"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

type policySpec struct {
	FailurePolicy        string                `yaml:"failurePolicy"`
	WebhookConfiguration *webhookConfiguration `yaml:"webhookConfiguration,omitempty"`
	Evaluation           evaluation            `yaml:"evaluation"`
	Autogen              autogen               `yaml:"autogen"`
	ValidationActions    []string              `yaml:"validationActions,omitempty,flow"`
	MatchConstraints     matchConstraints      `yaml:"matchConstraints"`
	MatchConditions      []condition           `yaml:"matchConditions,omitempty"`
	Variables            []condition           `yaml:"variables"`
	Mutations            []mutation            `yaml:"mutations,omitempty"`
	Validations          []validation          `yaml:"validations,omitempty"`
}

type webhookConfiguration struct {
	TimeoutSeconds int `yaml:"timeoutSeconds"`
}

type evaluation struct {
	Background struct {
		Enabled bool `yaml:"enabled"`
	} `yaml:"background,flow"`
}

type autogen struct {
	PodControllers struct {
		Controllers []string `yaml:"controllers,flow"`
	} `yaml:"podControllers"`
}

type matchConstraints struct {
	NamespaceSelector *labelSelector `yaml:"namespaceSelector,omitempty"`
	ResourceRules     []resourceRule `yaml:"resourceRules"`
}

type mutation struct {
	PatchType string `yaml:"patchType"`
	JSONPatch struct {
		Expression string `yaml:"expression"`
	} `yaml:"jsonPatch"`
}

type validation struct {
	Expression        string `yaml:"expression"`
	MessageExpression string `yaml:"messageExpression"`
}

// YAML writes the policies of a pair as documents, with comments ahead.
func (p Pair) YAML() ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# ClusterPolicy %s, rule %s in line %d.\n", p.Policy, quoted(p.Rule), p.Line)
	for _, note := range p.Notes {
		b.WriteString("# " + note + "\n")
	}
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	encoder.CompactSeqIndent()
	for _, policy := range p.policies {
		if err := encoder.Encode(policy); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), encoder.Close()
}

// maxConditions is how many match conditions an API server takes in a webhook.
const maxConditions = 64

// pair makes the policies of a rule.
func (t *translation) pair(p *clusterPolicy, r rule) Pair {
	name := p.name
	if len(p.rules) > 1 {
		name += "-" + r.name
		if !dns.MatchString(name) {
			r.at.fail("has the name %s, which gives no policy's name; write it in lower case letters, digits and -", quoted(r.name))
		}
	}
	pair := Pair{Policy: p.name, Rule: r.name, Line: r.at.node.Line, Notes: slices.Clone(r.notes)}
	common := policySpec{FailurePolicy: "Fail", MatchConditions: slices.Clone(p.conditions)}
	common.Autogen.PodControllers.Controllers = []string{}
	if p.timeout > 0 {
		common.WebhookConfiguration = &webhookConfiguration{p.timeout}
	}
	if p.ignore {
		common.FailurePolicy = "Ignore"
	}
	pair.Notes = append(pair.Notes, t.matching(p, &r, &common)...)
	if len(common.MatchConditions) > maxConditions {
		r.at.fail("has over %d conditions, more than a webhook may have; join some by &&", maxConditions)
	}
	action, notes := actionOf(p, r)
	pair.Notes = append(pair.Notes, notes...)
	emit := func(kind string, fill func(*policySpec, *rule)) {
		made := policy{"policies.kyverno.io/v1", kind, metadata{name, p.labels, p.annotations}, common}
		fill(&made.Spec, &r)
		pair.policies = append(pair.policies, made)
	}
	if r.mutates != nil {
		emit("MutatingPolicy", t.mutating)
	}
	emit("ValidatingPolicy", t.validating)
	pair.policies[len(pair.policies)-1].Spec.ValidationActions = []string{action}
	return pair
}

// actionOf is what happens to what is denied. In a rule that mutates, Kyverno takes the service's denial for a failure, on which
// failurePolicy decides alone; the same in a rule that validates, unless that is for audits only.
func actionOf(p *clusterPolicy, r rule) (action string, notes []string) {
	said := lo.CoalesceOrEmpty(r.action, p.action, "Audit")
	if r.mutates != nil && (strings.EqualFold(p.action, "Audit") || p.overrides != nil) {
		notes = append(notes, "validationFailureAction is left out: it is about rules that validate, and of this one failurePolicy alone decides.")
	}
	switch {
	case r.validates != nil && p.overrides != nil:
		p.overrides.fail("depends on the namespace; write a policy for each set of namespaces")
	case p.ignore:
		return "Audit", append(notes, "With failurePolicy Ignore the ClusterPolicy admitted what the service denied, and so do these. To deny it, set validationActions to [Deny].")
	case r.validates != nil && strings.EqualFold(said, "Audit"):
		return "Audit", notes
	}
	return "Deny", notes
}

// matching fills in whom the policies are for, and notes by what of it the object itself decides.
func (t *translation) matching(p *clusterPolicy, r *rule, into *policySpec) (notes []string) {
	if r.validates != nil {
		r.derive(p, t.known)
	}
	filters := r.match.filters
	if len(filters) == 0 {
		r.match.at.fail("selects nothing")
		return nil
	}
	common := filter{kinds: filters[0].kinds, operations: filters[0].operations}
	var resources []Resource
	var operations []string
	for _, f := range filters {
		if len(f.kinds) == 0 && !(r.match.every && len(filters) > 1) {
			f.at.fail("names no kinds")
		}
		if !f.selects(common) {
			common = filter{}
		}
		resources = append(resources, f.resources...)
		operations = append(operations, lo.Ternary(len(f.operations) > 0, f.operations, []string{"CREATE", "UPDATE"})...)
	}
	into.MatchConstraints.ResourceRules = resourceRules(resources, lo.Uniq(operations))
	if len(filters) == 1 {
		into.MatchConstraints.NamespaceSelector = filters[0].lift()
	}
	add := func(name string, c cel) {
		if c != always {
			into.MatchConditions = append(into.MatchConditions, condition{name, c.text})
		}
	}
	add("match", r.match.condition(common))
	if len(r.exclude.filters) > 0 {
		add("exclude", not(r.exclude.condition(common)))
	}
	for i, c := range r.preconditions {
		add(fmt.Sprintf("precondition-%d", i+1), c)
	}
	return r.ownWords()
}

// ownWords notes where a match or exclude goes by what the object says of itself.
func (r *rule) ownWords() (notes []string) {
	for _, b := range []block{r.match, r.exclude} {
		for _, f := range b.filters {
			for _, field := range f.byOwnWord {
				notes = append(notes, field+" goes by what an object says of itself: whoever writes the object decides whether it is checked.")
			}
		}
	}
	return notes
}

// derive adds the controllers for which Kyverno derives a rule from one that validates pods.
func (r *rule) derive(p *clusterPolicy, known []Resource) {
	wanted := controllers
	if p.autogen != "" {
		wanted = strings.FieldsFunc(p.autogen, func(r rune) bool { return r == ',' || r == ' ' })
	}
	if p.autogen == "none" {
		return
	}
	for _, other := range p.rules { // one that is not fit spoils it for all
		filters := append(append([]filter{}, other.match.filters...), other.exclude.filters...)
		if other.mutates != nil || lo.SomeBy(filters, func(f filter) bool { return len(f.byOwnWord) > 0 || len(f.kinds) > 1 && namesPod(f) }) {
			return
		}
	}
	if !lo.SomeBy(r.match.filters, namesPod) {
		return
	}
	if len(r.match.filters) != 1 || lo.SomeBy(r.exclude.filters, func(f filter) bool { return len(f.kinds) > 0 }) {
		r.at.fail("is one from which Kyverno derives rules for %s; name their kinds in match, and set the annotation %s to none", strings.Join(wanted, ", "), autogenAnnotation)
		return
	}
	f := &r.match.filters[0]
	for _, name := range wanted {
		k := kind{"*", "*", name, ""}
		f.kinds, f.resources = append(f.kinds, k), append(f.resources, k.resources(f.at, known)...)
	}
}

func namesPod(f filter) bool {
	return lo.SomeBy(f.kinds, func(k kind) bool { return k.name == "Pod" })
}

// The variables that all policies have, as in the samples: what the service reads of an object, what its records
// say of the request, and the caller's proof. Where all kinds have their pod where podOf looks, names and images are sent alone.
const (
	whole      = `object.transformMap(k, v, k != "metadata", v)`
	references = `variables.pod.transformMap(k, v, k in ["initContainers", "containers", "ephemeralContainers", "volumes"] && v != null,
v.map(c, c.transformMap(f, w, f in ["name", "image"], w)))`
	workload = `!(object.apiVersion in ["v1", "apps/v1", "batch/v1"]) ? dyn(` + whole + `)
: dyn({"apiVersion": dyn(object.apiVersion), "kind": dyn(object.kind), "spec":
has(object.spec.jobTemplate) ? dyn({"jobTemplate": {"spec": {"template": {"spec": variables.references}}}})
: has(object.spec.template) ? dyn({"template": {"spec": variables.references}}) : dyn(variables.references)})`
	described = `object.transformMap(k, v, k == "metadata" || k in variables.workload, k != "metadata" ? dyn(variables.workload[k])
: dyn(v.transformMap(f, w, f in ["name", "generateName", "namespace", "ownerReferences"], w)))`
	admission = `{"operation": dyn(request.operation), "namespace": dyn(has(request.namespace) ? request.namespace : ""),
"name": dyn(has(object.metadata.name) ? object.metadata.name : has(object.metadata.generateName) ? object.metadata.generateName + "*" : "")}`
	token = `globalContext.Get("kyverno-notation-venafi-caller", "token") == null ? ""
: string(base64.decode(string(globalContext.Get("kyverno-notation-venafi-caller", "token"))))`
)

// post is the call to the service about the object in a variable. An expression says whether digests are required; "" for no.
func (t *translation) post(c call, object, requireDigest string) string {
	sent := []string{`"object": dyn(variables.` + object + `)`, `"admission": dyn(variables.admission)`}
	add := func(name, value string) {
		if value != "" {
			sent = append(sent, literal(name)+": dyn("+value+")")
		}
	}
	add("trustPolicy", c.trustPolicy)
	add("imageReferences", c.imageReferences)
	add("attestations", lo.Ternary(c.attestations != "", "variables.attestations", ""))
	add("platforms", c.platforms)
	add("requireDigest", requireDigest)
	return "http.Post(" + literal(t.url+"/verify") + ",\n" + layout("{", sent, "}", "") + ",\n{\"Authorization\": \"Bearer \" + variables.token})"
}

func (r *rule) variables() []condition {
	c, sent := r.calls[0], []condition{{"workload", whole}}
	if r.plainPods() {
		sent = []condition{{"pod", podOf}, {"references", references}, {"workload", workload}}
	}
	all := append(sent, condition{"admission", admission}, condition{"token", token})
	if c.attestations != "" {
		all = append(all, condition{"attestations", c.attestations})
	}
	return all
}

// namesATag leaves out what names every image by digest, where there is nothing to pin.
const namesATag = "[" + podOf + `].exists(pod,
has(pod.containers) && pod.containers != null && pod.containers.exists(c, has(c.image) && !c.image.contains("@"))
|| has(pod.initContainers) && pod.initContainers.exists(c, has(c.image) && !c.image.contains("@"))
|| has(pod.ephemeralContainers) && pod.ephemeralContainers.exists(c, has(c.image) && !c.image.contains("@"))
|| has(pod.volumes) && pod.volumes.exists(v, has(v.image) && has(v.image.reference) && !v.image.reference.contains("@")))`

func (t *translation) mutating(s *policySpec, r *rule) {
	c := r.calls[0]
	if r.plainPods() && len(s.MatchConditions) < maxConditions {
		s.MatchConditions = append(slices.Clip(s.MatchConditions), condition{"names-a-tag", namesATag})
	}
	s.Variables = append(r.variables(), condition{"verdict", t.post(c, "workload", lo.Ternary(c.requireDigest, "true", ""))})
	answered := "variables.verdict.statusCode == 200"
	if s.FailurePolicy == "Ignore" { // where nothing denies, an object is pinned as a whole or not at all
		answered += " && variables.verdict.verified == true"
	}
	m := mutation{PatchType: "JSONPatch"}
	m.JSONPatch.Expression = answered + `
? variables.verdict.results.filter(r, has(r.op)).map(r, JSONPatch{op: "replace", path: r.path, value: r.value})
: []`
	s.Mutations = []mutation{m}
}

// validating denies what is not verified and, if the rule pins, what is not pinned. On pods/ephemeralcontainers the API server
// drops what was pinned of the other containers, which run already; there those that are added have to be pinned.
func (t *translation) validating(s *policySpec, r *rule) {
	c := r.calls[0]
	s.Variables = r.variables()
	complete, pins, added := "size(variables.verdict.results) > 0", "", false
	if r.plainPods() {
		complete = "size(variables.verdict.results) == variables.images"
	}
	switch {
	case c.requireDigest:
		pins = "true"
	case r.mutates != nil && lo.SomeBy(r.match.filters, namesPod):
		pins, added = "variables.pinned", true
		s.Variables = append(s.Variables, condition{"pinned", not(isEphemeral).text})
	case r.mutates != nil:
		pins = "true"
	}
	s.Variables = append(s.Variables, condition{"verdict", t.post(c, "workload", pins)})
	hasCause := r.mutates != nil && !c.requireDigest
	if hasCause {
		s.Variables = append(s.Variables, condition{"described", described}, condition{"cause", t.post(c, "described", "")})
	}
	if r.plainPods() {
		s.Variables = append(s.Variables, condition{"images", imagesOf})
	}
	s.Validations = []validation{validate(complete, added, hasCause)}
}

// validate demands a complete answer that calls everything verified and, if asked, that the containers that are added are pinned.
func validate(complete string, added, hasCause bool) validation {
	const verified = "variables.verdict.statusCode == 200 && variables.verdict.verified == true\n"
	expression, incomplete, cause := complete, `"the answer does not speak of every image; update the policy and the service to the same version"`, "string(variables.verdict.message)"
	if added {
		expression += "\n" + `&& !variables.verdict.results.exists(r, has(r.op) && r.path.startsWith("/spec/ephemeralContainers/"))`
		incomplete = "(" + complete + `
? "an ephemeral container is not named by digest; name its image by digest, or have the policy that pins images run before"
: ` + incomplete + ")"
	}
	if hasCause {
		cause = "variables.cause.statusCode == 200 && variables.cause.verified != true\n? string(variables.cause.message) : " + cause
	}
	return validation{verified + "&& " + expression, verified + "? " + incomplete + "\n: " + cause}
}

// plainPods tells whether all objects that a rule matches have their pod where podOf looks for it.
func (r *rule) plainPods() bool {
	return lo.EveryBy(r.match.filters, func(f filter) bool { return lo.EveryBy(f.resources, hasPlainPod) })
}

// hasPlainPod tells that podOf finds the pod of a kind.
func hasPlainPod(r Resource) bool {
	return r.Kind != "PodTemplate" && lo.ContainsBy(workloads, func(w Resource) bool { return w.Group == r.Group && w.Kind == r.Kind })
}

const (
	podOf = `has(object.spec.jobTemplate) ? object.spec.jobTemplate.spec.template.spec
: has(object.spec.template) ? object.spec.template.spec : object.spec`
	imagesOf = `size(variables.pod.containers)
+ (has(variables.pod.initContainers) ? size(variables.pod.initContainers) : 0)
+ (has(variables.pod.ephemeralContainers) ? size(variables.pod.ephemeralContainers) : 0)
+ (has(variables.pod.volumes) ? size(variables.pod.volumes.filter(v, has(v.image))) : 0)`
)
