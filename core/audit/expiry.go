package audit

import (
	"cmp"
	"fmt"
	"slices"
	"time"

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
func Expiries(demand Demand, uses []Use, verdicts Verdicts, now, until time.Time) []Expiry {
	expiries := []Expiry{}
	for _, use := range uses {
		check, _ := demand.Checks(use)
		for _, end := range firstEnds(verdicts.of(check).Ends) {
			if !end.At.After(until) {
				expiries = append(expiries, Expiry{use, check.TrustPolicy, end.At, end.Cause, end.Cause.Certain(), end.words(now)})
			}
		}
	}
	slices.SortStableFunc(expiries, func(a, b Expiry) int { return a.At.Compare(b.At) })
	return expiries
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
func Anchors(demand Demand, uses []Use, verdicts Verdicts) []Anchor {
	type key struct{ store, fingerprint string }
	type carried struct {
		Anchor
		images    map[string]bool
		workloads map[Workload]bool
	}
	all := map[key]*carried{}
	for _, use := range uses {
		check, _ := demand.Checks(use)
		verdict := verdicts.of(check)
		counted := map[key]bool{} // an attestation's signer may be the image's
		for _, a := range verdict.Anchors {
			k := key{a.Store, a.Fingerprint}
			if counted[k] {
				continue
			}
			counted[k] = true
			if all[k] == nil {
				all[k] = &carried{Anchor{Store: a.Store, Subject: a.Subject, Fingerprint: a.Fingerprint, NotAfter: a.NotAfter}, map[string]bool{}, map[Workload]bool{}}
			}
			all[k].images[verdict.Digest], all[k].workloads[use.Workload] = true, true
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
