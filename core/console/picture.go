package console

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// Node is a part of a decision's chain, with those that it rests on.
type Node struct {
	Kind  string // such as "image" or "certificate"
	Title string
	State State
	Word  string   // what came of it; "" for nothing
	Texts []string // sentences
	From  string   // id of the decision that worked it out, where that is another one
	Next  []Node
}

// MaxNodes bounds a picture; a number.
const MaxNodes = 1000

// Picture gives a tree for each image of a decision: image -> signature -> certificate -> trust store, and image -> attestation ->
// its signature and conditions. What [record.Why] tells of them in words is not in it.
func Picture(r record.Record) []Node {
	d := &drawing{now: r.Time, plan: r.Plan, left: MaxNodes}
	planned := map[string]core.PlannedImage{}
	for _, image := range r.Plan.Images {
		planned[string(image.Image.Pointer)] = image
	}
	var images []Node
	for _, result := range r.Verdict.Results {
		if d.left <= 0 {
			break
		}
		node := d.node(result.Kind, result.Requested, codeState(result.Code), string(result.Code), result.Name+": "+result.Reason)
		image, known := planned[string(result.Path)]
		if known && image.Decided == nil && image.Task < len(r.Plan.Tasks) && image.Task < len(r.Evidence) {
			d.task(&node, r.Plan.Tasks[image.Task], r.Evidence[image.Task])
		}
		images = append(images, node)
	}
	return images
}

// drawing is a picture under way.
type drawing struct {
	now  time.Time
	plan record.Plan
	left int // nodes that there is room for
}

func (d *drawing) node(kind, title string, state State, word string, texts ...string) Node {
	d.left--
	texts = slices.DeleteFunc(texts, func(text string) bool { return text == "" })
	for i, text := range texts {
		texts[i] = reason.OneLine(text)
	}
	return Node{Kind: kind, Title: reason.OneLine(title), State: state, Word: word, Texts: texts}
}

// add adds what a node rests on, where there is room.
func (d *drawing) add(to *Node, nodes ...Node) {
	if d.left > 0 {
		to.Next = append(to.Next, nodes...)
	}
}

func codeState(code reason.Code) State {
	switch {
	case code == reason.Verified:
		return Good
	case code.Class() == reason.Admitted:
		return Neutral
	case code.Class() == reason.Denied:
		return Bad
	}
	return Doubt
}

func (d *drawing) task(image *Node, task record.Task, gathered record.Gathered) {
	fact := gathered.Fact
	if fact.Digest != "" {
		image.Texts = append(image.Texts, reason.OneLine("Its digest is "+brief(fact.Digest)+"."))
	}
	image.From = gathered.From
	if fact.Failure == nil {
		d.signatures(image, fact.Digest, task, fact.Signature, gathered.Asked)
	}
	d.demands(image, task, fact.Attestations, gathered.Asked)
	if fact.Index != nil && fact.Index.Problem != nil {
		d.add(image, d.node("index", strings.Join(task.Platforms, ", "), codeState(fact.Index.Problem.Code), string(fact.Index.Problem.Code), fact.Index.Problem.Reason))
	}
	for _, manifest := range fact.Manifests() {
		node := d.node("platform", manifest.Platform.String(), Neutral, "", "Its digest is "+brief(manifest.Digest)+".")
		if manifest.Failure != nil {
			node.State, node.Word = codeState(manifest.Failure.Code), string(manifest.Failure.Code)
			node.Texts = append(node.Texts, reason.OneLine(manifest.Failure.Reason))
		} else {
			d.signatures(&node, manifest.Digest, task, manifest.Signature, gathered.Asked)
			d.demands(&node, task, manifest.Attestations, gathered.Asked)
		}
		d.add(image, node)
	}
}

// demands draws the attestations that are demanded, of an image or of a manifest of its index.
func (d *drawing) demands(of *Node, task record.Task, found []verification.AttestationsFact, asked []record.Asked) {
	for i, each := range found {
		if i < len(task.Demands) {
			d.add(of, d.demand(task, d.plan.Demands[task.Demands[i]], each, asked))
		}
	}
}

// signatures draws the signatures of an artifact: those that were looked at for this decision, or else what is known of them.
func (d *drawing) signatures(of *Node, digest string, task record.Task, fact verification.SignatureFact, asked []record.Asked) {
	if fact.Skipped {
		d.add(of, d.node("signature", "not looked at", Neutral, "skipped", "The level of the trust policy statement is skip."))
		return
	}
	drawn := false
	for _, a := range asked {
		if a.Lookup.Kind == verification.Signature && a.Lookup.Artifact == digest {
			drawn = true
			d.add(of, d.signature(task, a))
		}
	}
	switch {
	case drawn:
	case fact.Verified:
		signed := d.node("signature", "by "+fact.Signer, Good, "satisfies", "Signed at "+stamp(fact.SignedAt)+".")
		d.add(&signed, d.unseen(task)...)
		d.add(of, signed)
	case len(fact.Rejected) == 0:
		d.add(of, d.node("signature", "none", Bad, string(reason.NoSignature)))
	default:
		for _, rejected := range fact.Rejected {
			d.add(of, d.node("signature", "tried in vain", codeState(rejected.Code), string(rejected.Code), rejected.Reason))
		}
	}
	if fact.Truncated {
		d.add(of, d.node("signature", "more of them", Doubt, "not tried", "There are more signatures than are tried."))
	}
}

// unseen are the trust stores of a statement, where the chain that one of them vouches for is not in the record.
func (d *drawing) unseen(task record.Task) (stores []Node) {
	for _, name := range task.Statement.TrustStores {
		stores = append(stores, d.node("trust store", name, Neutral, "named", statementOf(task)))
	}
	return stores
}

func (d *drawing) signature(task record.Task, asked record.Asked) Node {
	state, word, text := Good, "satisfies", ""
	if failure := asked.Answer.Failure; failure != nil {
		state, word, text = codeState(failure.Finding.Code), string(failure.Finding.Code), failure.Finding.Reason
	}
	if rejected := asked.Answer.Signature.Rejected; rejected != nil {
		state, word, text = codeState(rejected.Code), string(rejected.Code), rejected.Reason
	}
	node := d.node("signature", brief(asked.Lookup.Subject), state, word, text)
	if asked.Report == nil {
		d.add(&node, d.unseen(task)...)
		return node
	}
	report := asked.Report.Whole()
	if !report.SignedAt.IsZero() {
		node.Texts = append(node.Texts, "Signed at "+stamp(report.SignedAt)+", as the signature says.")
	}
	for _, check := range report.Checks {
		switch {
		case check.Problem == "":
			node.Texts = append(node.Texts, "Passed: "+check.Name+".")
		case report.Enforced[check.Name]:
			node.Texts = append(node.Texts, "Failed: "+check.Name+".")
		default:
			node.Texts = append(node.Texts, "Failed, and only logged: "+check.Name+".")
		}
	}
	if report.Plugin.Name != "" {
		node.Texts = append(node.Texts, reason.OneLine("It demands the plugin "+report.Plugin.Name+" "+report.Plugin.Version+"."))
	}
	if len(report.Chain) > 0 {
		d.add(&node, d.certificate(task, report.Chain, 0))
	}
	return node
}

// certificate draws a certificate of a signer's chain, and behind it its issuer, or the trust stores behind the last one.
func (d *drawing) certificate(task record.Task, chain []*x509.Certificate, i int) Node {
	c := chain[i]
	state, word := Good, "valid"
	switch {
	case d.now.After(c.NotAfter):
		state, word = Bad, "expired"
	case d.now.Before(c.NotBefore):
		state, word = Bad, "not valid yet"
	}
	node := d.node("certificate", c.Subject.String(), state, word, fmt.Sprintf("From %s to %s, serial number %v.", date(c.NotBefore), date(c.NotAfter), c.SerialNumber))
	stores := d.vouching(c, task)
	d.add(&node, stores...)
	switch {
	case i+1 < len(chain) && d.left > 0:
		node.Next = append(node.Next, d.certificate(task, chain, i+1))
	case len(stores) == 0 && i+1 == len(chain) && !d.vouched(chain, task):
		for _, name := range task.Statement.TrustStores {
			d.add(&node, d.node("trust store", name, Bad, "has none of the chain", statementOf(task)))
		}
	}
	return node
}

// vouching gives the trust stores of a statement that hold a certificate.
func (d *drawing) vouching(c *x509.Certificate, task record.Task) (stores []Node) {
	for _, store := range d.plan.Stores {
		name := store.Type + ":" + store.Name
		holds := slices.ContainsFunc(store.Certificates, func(der []byte) bool { return bytes.Equal(der, c.Raw) })
		if holds && slices.Contains(task.Statement.TrustStores, name) {
			stores = append(stores, d.node("trust store", name, Good, "has it", statementOf(task)))
		}
	}
	return stores
}

// vouched tells whether a trust store of the statement holds a certificate of the chain, or whether that is not known.
func (d *drawing) vouched(chain []*x509.Certificate, task record.Task) bool {
	if len(d.plan.Stores) == 0 {
		return true // they were cut
	}
	return slices.ContainsFunc(chain, func(c *x509.Certificate) bool {
		left := d.left
		defer func() { d.left = left }()
		return len(d.vouching(c, task)) > 0
	})
}

func statementOf(task record.Task) string {
	s := task.Statement
	return fmt.Sprintf("Trust policy %s, statement %s, level %s, identities %s.", task.Policy, s.Name, s.Level, strings.Join(s.TrustedIdentities, "; "))
}

// demand draws what is demanded of a type of attestation, with those that there are.
func (d *drawing) demand(task record.Task, demand record.Demand, found verification.AttestationsFact, asked []record.Asked) Node {
	node := d.node("attestations", demand.Name, Neutral, string(demand.Select)+" must meet the conditions")
	if found.Failure != nil {
		node.State, node.Word, node.Texts = codeState(found.Failure.Code), string(found.Failure.Code), []string{reason.OneLine(found.Failure.Reason)}
		return node
	}
	if len(found.Candidates) == 0 {
		node.State, node.Word = Bad, "none is attached"
	}
	for _, candidate := range found.Candidates {
		d.add(&node, d.attestation(task, demand, candidate, asked))
	}
	return node
}

func (d *drawing) attestation(task record.Task, demand record.Demand, candidate verification.AttestationFact, asked []record.Asked) Node {
	node := d.node("attestation", brief(candidate.Digest), Neutral, "not evaluated")
	for _, finding := range []*reason.Finding{candidate.NotApplicable, candidate.Missing, candidate.Unusable} {
		if finding != nil {
			node.State, node.Word = codeState(finding.Code), string(finding.Code)
			node.Texts = append(node.Texts, reason.OneLine(finding.Reason))
		}
	}
	if candidate.NotApplicable != nil {
		return node
	}
	d.signatures(&node, candidate.Digest, task, candidate.Signature, asked)
	switch {
	case !candidate.Signature.Verified && !candidate.Signature.Skipped && node.State == Neutral:
		node.State, node.Word = Bad, "not trusted"
	case len(demand.Any)+len(demand.All) == 0 && node.State == Neutral:
		node.State, node.Word = Good, "signed"
	}
	if evaluation := candidate.Evaluation; evaluation != nil {
		conditions := d.node("condition", fmt.Sprintf("%d of them", len(demand.Any)+len(demand.All)), Good, "met")
		if len(demand.Any)+len(demand.All) == 1 {
			conditions.Title = "the only one"
		}
		for _, met := range evaluation.Met {
			conditions.Texts = append(conditions.Texts, reason.OneLine(met))
		}
		if len(evaluation.Met) == 0 {
			for _, c := range slices.Concat(demand.All, demand.Any) {
				conditions.Texts = append(conditions.Texts, reason.OneLine(c.Key+" "+c.Operator+" "+c.Value))
			}
		}
		node.State, node.Word = Good, "meets the conditions"
		if finding := evaluation.Finding; finding != nil {
			conditions.State, conditions.Word = codeState(finding.Code), string(finding.Code)
			conditions.Texts = append([]string{reason.OneLine(finding.Reason)}, conditions.Texts...)
			node.State, node.Word = conditions.State, conditions.Word
		}
		d.add(&node, conditions)
	}
	return node
}

// brief is the beginning of a digest, as registries' tools print it.
func brief(digest string) string {
	const most = len("sha256:") + 12
	return digest[:min(most, len(digest))]
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339) }
func date(at time.Time) string  { return at.UTC().Format(time.DateOnly) }
