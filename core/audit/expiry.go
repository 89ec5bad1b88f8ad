package audit

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// Expiry is a use that stops, or may stop, being admissible at a known time.
type Expiry struct {
	Use
	TrustPolicy string             `json:"trustPolicy,omitempty"`
	At          time.Time          `json:"at"`
	Cause       verification.Cause `json:"cause"`
	Certain     bool               `json:"certain"` // it stops, whatever happens until then but a new signature
	Reason      string             `json:"reason"`  // a sentence
}

// Expiries lists, by date, the uses that are admitted and stop being so before a time, with the first cause that is certain,
// and before it the first that is not.
func (e Evaluation) Expiries(uses []Use, now, until time.Time) []Expiry {
	expiries := []Expiry{}
	for _, use := range uses {
		for _, end := range firstEnds(e.ends(use)) {
			if !end.At.After(until) {
				expiries = append(expiries, Expiry{use, end.trustPolicy, end.At, end.Cause, end.Cause.Certain(), end.words(now)})
			}
		}
	}
	slices.SortStableFunc(expiries, func(a, b Expiry) int { return a.At.Compare(b.At) })
	return expiries
}

// ends gives the ends of a use under all trust policies that apply; none where one of them does not admit it.
func (e Evaluation) ends(use Use) (ends []End) {
	for _, demand := range e.Demands.Of(use.Namespace) {
		verdict := e.restart(demand, use)
		if !verdict.admitted() {
			return nil
		}
		for _, end := range verdict.Ends {
			end.trustPolicy = demand.TrustPolicy
			ends = append(ends, end)
		}
	}
	return ends
}

// firstEnds gives the first end that is certain, and the first of the others if it comes earlier.
func firstEnds(ends []End) []End {
	sorted := slices.SortedStableFunc(slices.Values(ends), func(a, b End) int { return a.At.Compare(b.At) })
	var first []End
	for _, end := range sorted {
		if end.Cause.Certain() {
			return append(first, end)
		}
		if len(first) == 0 {
			first = append(first, end)
		}
	}
	return first
}

// words say what ends, and what to do about it.
func (e End) words(now time.Time) string {
	whose := "its signature"
	if e.Attestation != "" {
		whose = "the signature of attestation " + e.Attestation
	}
	days := int(e.At.Sub(now).Hours() / 24)
	switch e.Cause {
	case verification.EndOfSignature:
		return fmt.Sprintf("%s expires in %d days; sign anew", whose, days)
	case verification.EndOfCertificate:
		return fmt.Sprintf("certificate %q of %s expires in %d days, and no timestamp is verified; sign anew, with a timestamp", e.Subject, whose, days)
	case verification.EndOfCondition:
		return fmt.Sprintf("by then, or before, a condition that reads the clock is not met: %s", e.Subject)
	case verification.NeedsTimestamp:
		return fmt.Sprintf("certificate %q of %s expires in %d days; from then on its timestamp must verify", e.Subject, whose, days)
	}
	return fmt.Sprintf("the revocation data for %s expires; from then on the CA's CRL or OCSP responder must give newer", whose)
}

// SumExpiries gives the outcome of findings and of what ends: bad where something stops being admissible for certain.
func SumExpiries(findings []Finding, expiries []Expiry) Outcome {
	if slices.ContainsFunc(expiries, func(e Expiry) bool { return e.Certain }) {
		return Bad
	}
	return Sum(findings)
}

// Anchor is a certificate of a trust store, with how much of what runs it carries.
type Anchor struct {
	Store       string    `json:"store"` // as trust policies name it, "ca:acme"
	Subject     string    `json:"subject"`
	Fingerprint string    `json:"fingerprint"` // SHA-256, in hexadecimal
	NotAfter    time.Time `json:"notAfter"`
	Images      int       `json:"images"`    // distinct digests
	Workloads   int       `json:"workloads"` // distinct
	Pods        int       `json:"pods"`
}

// Anchors lists the certificates of trust stores by which uses are admitted, those that expire first before the others.
func (e Evaluation) Anchors(uses []Use) []Anchor {
	type key struct{ store, fingerprint string }
	type carried struct {
		Anchor
		images    map[string]bool
		workloads map[Workload]bool
	}
	all := map[key]*carried{}
	for _, use := range uses {
		digest, found := e.anchors(use)
		for _, a := range found {
			k := key{a.Store, a.Fingerprint}
			if all[k] == nil {
				all[k] = &carried{Anchor{Store: a.Store, Subject: a.Subject, Fingerprint: a.Fingerprint, NotAfter: a.NotAfter}, map[string]bool{}, map[Workload]bool{}}
			}
			all[k].images[digest], all[k].workloads[use.Workload] = true, true
			all[k].Pods += use.Pods
		}
	}
	anchors := make([]Anchor, 0, len(all))
	for _, c := range all {
		c.Images, c.Workloads = len(c.images), len(c.workloads)
		anchors = append(anchors, c.Anchor)
	}
	slices.SortFunc(anchors, func(a, b Anchor) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.Store, b.Store), cmp.Compare(a.Fingerprint, b.Fingerprint))
	})
	return anchors
}

// anchors gives the certificates by which a use is admitted, each once: an attestation's signer may be the image's, and one trust
// policy's another's.
func (e Evaluation) anchors(use Use) (digest string, anchors []verification.Anchor) {
	for _, demand := range e.Demands.Of(use.Namespace) {
		verdict := e.restart(demand, use)
		digest = cmp.Or(digest, verdict.Digest)
		anchors = append(anchors, verdict.Anchors...)
	}
	return digest, lo.UniqBy(anchors, func(a verification.Anchor) string { return a.Store + " " + a.Fingerprint })
}
