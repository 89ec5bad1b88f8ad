package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

const day = 24 * time.Hour

// ConditionExpiring of a TrustStore says which of its certificates expire within 30, 7 or 1 days, or have expired. A store
// without such certificates has no condition of this type. It also records for which of them an event was created, as events
// are deleted after an hour. Its reasons:
const (
	ConditionExpiring = "Expiring"

	ReasonCertificateExpires = "CertificateExpires"
	// ReasonCertificateExpired is the other reason.
)

// Warning is about one certificate of a TrustStore that has reached a threshold.
type Warning struct {
	Store       string // the resource's name
	UID         string // the resource's
	Reason      string // ReasonCertificateExpires or ReasonCertificateExpired
	Fingerprint string // of the certificate: SHA-256, in hexadecimal
	Threshold   string // such as "expires within 7 days"
	Text        string // for a person
}

// Warnings gives the warnings that the stores' status does not record yet.
func Warnings(stores []StoreResource, now time.Time) []Warning {
	snapshot, _ := Compile(nil, stores)
	var unsent []Warning
	for _, r := range stores {
		for _, warning := range warningsOf(r, snapshot.Stores[r.ref()], now) {
			if recorded := meta.FindStatusCondition(r.Status.Conditions, ConditionExpiring); recorded == nil || !strings.Contains(recorded.Message, warning.record()) {
				unsent = append(unsent, warning)
			}
		}
	}
	return unsent
}

// WithoutUnsent is the status of a store of which an event could not be created: its ConditionExpiring is that of the status
// before, so that the warning is given again.
func (s Status) WithoutUnsent(before Status) Status {
	s.Conditions = slices.DeleteFunc(slices.Clone(s.Conditions), func(c metav1.Condition) bool { return c.Type == ConditionExpiring })
	if old := meta.FindStatusCondition(before.Conditions, ConditionExpiring); old != nil {
		s.Conditions = append(s.Conditions, *old)
	}
	return s
}

// record is the part of the condition's message by which a warning is found in it.
func (w Warning) record() string { return "(" + w.Fingerprint[:16] + ") " + w.Threshold }

// warningsOf gives the warnings of a store, one per certificate, the most urgent first.
func warningsOf(r StoreResource, store trust.Store, now time.Time) []Warning {
	expiring := slices.DeleteFunc(slices.Clone(store.Certificates), func(c *x509.Certificate) bool { return threshold(c, now) == "" })
	slices.SortStableFunc(expiring, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	var warnings []Warning
	for _, certificate := range slices.CompactFunc(expiring, (*x509.Certificate).Equal) {
		w := Warning{
			Store: r.Name, UID: string(r.UID), Reason: ReasonCertificateExpires,
			Fingerprint: fmt.Sprintf("%x", sha256.Sum256(certificate.Raw)), Threshold: threshold(certificate, now),
		}
		if now.After(certificate.NotAfter) {
			w.Reason = ReasonCertificateExpired
		}
		w.Text = fmt.Sprintf("%q %s, at %s", reason.Clip(certificate.Subject.String(), maxSubject), w.record(), certificate.NotAfter.UTC().Format(time.RFC3339))
		warnings = append(warnings, w)
	}
	return warnings
}

// threshold names the last threshold that a certificate has reached; "" for none.
func threshold(certificate *x509.Certificate, now time.Time) string {
	left := certificate.NotAfter.Sub(now)
	switch {
	case left < 0:
		return "has expired"
	case left <= day:
		return "expires within 1 day"
	case left <= 7*day:
		return "expires within 7 days"
	case left <= 30*day:
		return "expires within 30 days"
	}
	return ""
}

// maxSubject leaves room for other certificates in a message, bytes: subjects can be of any length.
const maxSubject = 64

// expiring sets ConditionExpiring, or removes it where there are no warnings.
func (s Status) expiring(generation int64, warnings []Warning, now time.Time) Status {
	if len(warnings) == 0 {
		meta.RemoveStatusCondition(&s.Conditions, ConditionExpiring)
		return s
	}
	texts := make([]string, len(warnings))
	for i, w := range warnings {
		texts[i] = w.Text
	}
	meta.SetStatusCondition(&s.Conditions, metav1.Condition{
		Type: ConditionExpiring, Status: metav1.ConditionTrue, ObservedGeneration: generation,
		LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)), Reason: warnings[0].Reason, Message: bounded(strings.Join(texts, "; ")),
	})
	return s
}
