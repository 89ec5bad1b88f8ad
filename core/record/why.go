package record

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// Why tells a record for people: the chain of reasons for each image. Every line is one line, whatever strangers wrote.
func Why(r Record) string {
	t := &telling{now: r.Time}
	t.say(0, "decision %s of %s: %s", r.ID, r.Time.UTC().Format(time.RFC3339), r.Outcome)
	t.about(1, "asked by", r.Caller)
	if o := r.Object; o != (core.Object{}) {
		t.say(1, "for %s, as the request says", o)
	}
	if !r.Replayable {
		t.say(1, "the record lacks %s", strings.Join(r.Cut, "; "))
	}
	planned := map[string]core.PlannedImage{}
	for _, image := range r.Plan.Images {
		planned[string(image.Image.Pointer)] = image
	}
	for _, result := range r.Verdict.Results {
		t.say(0, "")
		t.say(0, "%s %s, %s: %s", result.Kind, result.Name, result.Requested, result.Code)
		t.say(1, "%s", result.Reason)
		image, ok := planned[string(result.Path)]
		if !ok || image.Decided != nil || image.Task < 0 || image.Task >= len(r.Plan.Tasks) || image.Task >= len(r.Evidence) {
			continue
		}
		t.task(r.Plan, r.Plan.Tasks[image.Task], r.Evidence[image.Task])
	}
	return t.text.String()
}

// telling is a text under way.
type telling struct {
	text strings.Builder
	now  time.Time
}

func (t *telling) say(depth int, format string, args ...any) {
	t.text.WriteString(strings.Repeat("  ", depth) + reason.OneLine(fmt.Sprintf(format, args...)) + "\n")
}

func (t *telling) about(depth int, what, text string) {
	if text != "" {
		t.say(depth, "%s: %s", what, text)
	}
}

func (t *telling) task(plan Plan, task Task, gathered Gathered) {
	s := task.Statement
	t.say(1, "trust policy %q, statement %q: level %s, trust stores %s, identities %s", task.Policy, s.Name, s.Level, strings.Join(s.TrustStores, ", "), strings.Join(s.TrustedIdentities, "; "))
	t.about(1, "signatures and attestations are looked for in", s.SignatureRepository)
	switch gathered.How {
	case Kept:
		t.say(1, "from what was kept%s", from(gathered.From))
	case Shared:
		t.say(1, "from a decision at the same time%s", from(gathered.From))
	case Unfinished:
		t.say(1, "nothing could be worked out")
	}
	if fact := gathered.Fact; fact.Digest != "" {
		t.say(1, "its digest is %s", fact.Digest)
	}
	for _, warning := range gathered.Fact.Warnings {
		t.say(1, "doubt: %s", warning)
	}
	t.signatures(1, "the image", gathered.Fact.Digest, gathered.Fact.Signature, gathered.Asked)
	t.demands(1, plan, task, gathered.Fact.Attestations, gathered.Asked)
	t.index(plan, task, gathered)
	t.asked(gathered.Asked)
}

// index tells what came of the manifests of an index that the task chooses by their platform.
func (t *telling) index(plan Plan, task Task, gathered Gathered) {
	if len(task.Platforms) == 0 {
		return
	}
	t.say(1, "platforms %s, whose manifests must be signed beside the index:", strings.Join(task.Platforms, ", "))
	switch index := gathered.Fact.Index; {
	case index == nil:
		t.say(2, "they were not looked at")
	case index.Single:
		t.say(2, "the image is no index, so there is none beside it")
	case index.Problem != nil:
		t.say(2, "%s: %s", index.Problem.Code, index.Problem.Reason)
	}
	for _, manifest := range gathered.Fact.Manifests() {
		what := fmt.Sprintf("manifest %s for %s", manifest.Digest, manifest.Platform)
		if manifest.Failure != nil {
			t.say(2, "%s: %s: %s", what, manifest.Failure.Code, manifest.Failure.Reason)
			continue
		}
		t.signatures(2, what, manifest.Digest, manifest.Signature, gathered.Asked)
		t.demands(2, plan, task, manifest.Attestations, gathered.Asked)
	}
}

// demands tells what came of the attestations that are demanded, of the image or of a manifest of its index.
func (t *telling) demands(depth int, plan Plan, task Task, found []verification.AttestationsFact, asked []Asked) {
	for i, of := range found {
		if i < len(task.Demands) {
			t.attestations(depth, plan.Demands[task.Demands[i]], of, asked)
		}
	}
}

func from(id string) string {
	if id == "" {
		return ""
	}
	return ", worked out for decision " + id
}

// signatures tells what came of the signatures of an artifact: that which satisfies, and those that were tried in vain.
func (t *telling) signatures(depth int, what, digest string, fact verification.SignatureFact, asked []Asked) {
	switch {
	case fact.Skipped:
		t.say(depth, "%s: signatures are not looked at", what)
		return
	case fact.Verified:
		t.say(depth, "%s: signed by %s at %s", what, fact.Signer, fact.SignedAt.UTC().Format(time.RFC3339))
		if !fact.ValidUntil.IsZero() {
			t.say(depth+1, "it stops verifying at %s", fact.ValidUntil.UTC().Format(time.RFC3339))
		}
	case len(fact.Rejected) == 0:
		t.say(depth, "%s: no signature", what)
	default:
		t.say(depth, "%s: no signature satisfies", what)
	}
	for _, warning := range fact.Warnings {
		t.say(depth+1, "only logged: %s", warning)
	}
	for _, rejected := range fact.Rejected {
		t.say(depth+1, "tried in vain: %s: %s", rejected.Code, rejected.Reason)
	}
	for _, a := range asked {
		if a.Lookup.Kind == verification.Signature && a.Lookup.Artifact == digest {
			t.signature(depth+1, a)
		}
	}
	if fact.Truncated {
		t.say(depth+1, "there are more signatures, which were not tried")
	}
}

// signature tells of one signature: the signer's chain, and what each check gave.
func (t *telling) signature(depth int, asked Asked) {
	came := "satisfies"
	if rejected := asked.Answer.Signature.Rejected; rejected != nil {
		came = "does not satisfy: " + string(rejected.Code)
	}
	t.say(depth, "envelope %s %s", asked.Lookup.Subject, came)
	if asked.Report == nil {
		return
	}
	report := asked.Report.Whole()
	for i, certificate := range report.Chain {
		t.certificate(depth+1, i, certificate)
	}
	if !report.SignedAt.IsZero() {
		t.say(depth+1, "signed at %s, which the signature says%s", report.SignedAt.UTC().Format(time.RFC3339), expires(report.Expiry))
	}
	for _, check := range report.Checks {
		result := "passed"
		if check.Problem != "" {
			result = "failed: " + check.Problem
			if !report.Enforced[check.Name] {
				result = "failed, which is only logged: " + check.Problem
			}
		}
		t.say(depth+1, "check of %s %s", check.Name, result)
	}
	t.about(depth+1, "ended with", report.Problem)
	if plugin := report.Plugin; plugin.Name != "" {
		t.say(depth+1, "plugin %s %s: %s", plugin.Name, plugin.Version, said(plugin))
	}
	t.about(depth+1, "revocation of the signer", told(report.Signing))
	t.about(depth+1, "revocation of the timestamping authority", told(report.Timestamping))
}

func told(revocation verification.RevocationReport) string {
	switch {
	case revocation.Withheld:
		return "nobody was asked, since the signer is not authentic"
	case revocation.Revoked:
		return "a certificate is revoked" + revocation.Causes
	case revocation.Unknown:
		return "it could not be found out" + revocation.Causes
	}
	return ""
}

func expires(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return ", expires at " + at.UTC().Format(time.RFC3339)
}

func (t *telling) certificate(depth, i int, certificate *x509.Certificate) {
	validity := "is valid"
	switch {
	case t.now.After(certificate.NotAfter):
		validity = "HAS EXPIRED"
	case t.now.Before(certificate.NotBefore):
		validity = "IS NOT VALID YET"
	}
	t.say(depth, "certificate %d: %s, %s, from %s to %s, issued by %s, serial %v", i, certificate.Subject, validity,
		certificate.NotBefore.UTC().Format(time.DateOnly), certificate.NotAfter.UTC().Format(time.DateOnly), certificate.Issuer, certificate.SerialNumber)
}

func said(plugin verification.PluginReport) string {
	switch {
	case plugin.Withheld != nil:
		return "was not asked: " + plugin.Withheld.Reason
	case plugin.Failure != nil:
		return string(plugin.Failure.Code) + ": " + plugin.Failure.Reason
	case plugin.Verified:
		return "answered"
	}
	return "was not asked"
}

// attestations tells what came of the attestations of a demand, and what its conditions saw.
func (t *telling) attestations(depth int, demand Demand, found verification.AttestationsFact, asked []Asked) {
	t.say(depth, "attestations of type %q, of which %s must meet the conditions:", demand.Name, demand.Select)
	if found.Failure != nil {
		t.say(depth+1, "%s: %s", found.Failure.Code, found.Failure.Reason)
	}
	if found.Failure == nil && len(found.Candidates) == 0 {
		t.say(depth+1, "none is attached")
	}
	for _, candidate := range found.Candidates {
		what := "attestation " + candidate.Digest
		for _, finding := range []*reason.Finding{candidate.NotApplicable, candidate.Missing, candidate.Unusable} {
			if finding != nil {
				t.say(depth+1, "%s: %s: %s", what, finding.Code, finding.Reason)
			}
		}
		if candidate.NotApplicable == nil {
			t.signatures(depth+1, what, candidate.Digest, candidate.Signature, asked)
		}
		t.content(depth+2, demand, candidate.Evaluation)
	}
}

// content tells what the conditions of a demand saw in the content of an attestation; nothing where they did not look.
func (t *telling) content(depth int, demand Demand, evaluation *verification.Evaluation) {
	switch {
	case evaluation == nil:
		return
	case evaluation.Finding != nil:
		t.say(depth, "its content: %s", evaluation.Finding.Reason)
	default:
		t.say(depth, "its content meets the conditions")
	}
	for _, met := range evaluation.Met {
		t.say(depth+1, "%s", met)
	}
	if evaluation.Finding != nil || len(evaluation.Met) > 0 {
		return
	}
	for _, c := range slices.Concat(demand.Any, demand.All) { // a record of an older version
		t.say(depth+1, "%s %s %s", c.Key, c.Operator, c.Value)
	}
}

// asked tells who was asked, and how long that took.
func (t *telling) asked(asked []Asked) {
	for _, a := range asked {
		kept, failure := "", ""
		if a.Kept {
			kept = ", which was kept"
		}
		if a.Answer.Failure != nil {
			failure = ": " + a.Answer.Failure.Finding.Reason
		}
		t.say(1, "asked %s for the %s of %s, %.1f ms%s%s", a.Lookup.Repository, a.Lookup.Kind, a.Lookup.Subject, float64(a.Took)/1000, kept, failure)
	}
}

// Differences says what another decision about the same images found otherwise; none where nothing is different.
func Differences(before, after Record) (lines []string) {
	add := func(format string, args ...any) {
		lines = append(lines, reason.OneLine(fmt.Sprintf(format, args...)))
	}
	if before.Outcome != after.Outcome {
		add("the outcome was %s, and is %s", before.Outcome, after.Outcome)
	}
	now := map[string]core.Result{}
	for _, result := range after.Verdict.Results {
		now[string(result.Path)] = result
	}
	for _, was := range before.Verdict.Results {
		is, ok := now[string(was.Path)]
		what := was.Kind + " " + was.Name + ", " + was.Requested
		switch {
		case !ok:
			add("%s: nothing is known", what)
			continue
		case was.Code != is.Code || was.Reason != is.Reason:
			add("%s: was %s (%s), and is %s (%s)", what, was.Code, was.Reason, is.Code, is.Reason)
		}
		if was.Digest != is.Digest {
			add("%s: its digest was %q, and is %q", what, was.Digest, is.Digest)
		}
	}
	revisions := map[string]string{}
	for _, task := range after.Plan.Tasks {
		revisions[task.Reference.String()] = task.Revision
	}
	for _, task := range before.Plan.Tasks {
		if is, ok := revisions[task.Reference.String()]; ok && is != task.Revision {
			add("%s: the trust policy statement or its trust stores have changed", task.Reference)
		}
	}
	if before.Plan.Plugins != after.Plan.Plugins && before.Plan.Plugins != "" {
		add("the installed plugins or their configuration are others")
	}
	return lines
}
