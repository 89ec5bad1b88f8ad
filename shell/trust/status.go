package trust

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/samber/lo"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// ConditionReady tells whether a resource can be used. Its reasons:
const (
	ConditionReady = "Ready"

	ReasonValid              = "Valid"
	ReasonInvalid            = "Invalid"
	ReasonNameClaimedTwice   = "NameClaimedTwice"
	ReasonCertificateExpired = "CertificateExpired"
	ReasonTrustStoreMissing  = "TrustStoreMissing"
)

// Statuses are those of resources, by the resources' names.
type Statuses struct {
	Policies, Stores map[string]Status
}

// Assess works out the status of every resource. It compiles the resources as a verification does, so that status and
// verdict agree. A condition whose state stays keeps the time of its last transition.
func Assess(policies []PolicyResource, stores []StoreResource, now time.Time) Statuses {
	snapshot, _ := Compile(policies, stores)
	claims := lo.CountValuesBy(stores, StoreResource.ref)
	names := lo.CountValuesBy(policies, func(r PolicyResource) string { return r.Spec.TrustPolicyName })
	return Statuses{
		Stores: lo.SliceToMap(stores, func(r StoreResource) (string, Status) {
			store := snapshot.Stores[r.ref()]
			reason, message := assessStore(store, claims[r.ref()], now)
			status := r.Status.next(r.Generation, reason, message, store.NotAfter(), now)
			return r.Name, status.expiring(r.Generation, warningsOf(r, store, now), now)
		}),
		Policies: lo.SliceToMap(policies, func(r PolicyResource) (string, Status) {
			used := storesOf(r, snapshot)
			reason, message := assessPolicy(r, snapshot, used, names[r.Spec.TrustPolicyName], now)
			status := r.Status.next(r.Generation, reason, message, earliest(used), now)
			return r.Name, status.applying(r, now)
		}),
	}
}

func assessStore(store trust.Store, claimants int, now time.Time) (reason, message string) {
	switch {
	case claimants > 1:
		return ReasonNameClaimedTwice, store.Problem
	case store.Problem != "":
		return ReasonInvalid, store.Problem
	}
	var expired []string
	for _, certificate := range store.Certificates {
		if now.After(certificate.NotAfter) {
			expired = append(expired, fmt.Sprintf("%q expired at %s", certificate.Subject, certificate.NotAfter.UTC().Format(time.RFC3339)))
		}
	}
	text := fmt.Sprintf("%d of %d certificates are valid", len(store.Certificates)-len(expired), len(store.Certificates))
	if len(expired) > 0 {
		text += ": " + strings.Join(expired, ", ")
	}
	if len(expired) == len(store.Certificates) {
		return ReasonCertificateExpired, text
	}
	text += daysLeft(store.NotAfter(), now)
	if len(store.Unused) > 0 {
		text += "; " + unused(store)
	}
	return ReasonValid, text
}

// daysLeft is the end of a message; "" where there is no certificate, or an expired one.
func daysLeft(notAfter, now time.Time) string {
	if !notAfter.After(now) {
		return ""
	}
	return fmt.Sprintf("; days left: %d", int(notAfter.Sub(now)/day))
}

func assessPolicy(r PolicyResource, snapshot trust.Snapshot, used []trust.Store, claimants int, now time.Time) (reason, message string) {
	problem := snapshot.Policies[r.Spec.TrustPolicyName].Problem
	switch {
	case r.Spec.TrustPolicyName == "": // no request can name it, so the snapshot lacks it
		return ReasonInvalid, "spec.trustPolicyName is empty"
	case claimants > 1:
		return ReasonNameClaimedTwice, problem
	case problem != "":
		return ReasonInvalid, problem
	}
	if unusable := lo.Filter(used, func(s trust.Store, _ int) bool { return s.Problem != "" }); len(unusable) > 0 {
		return ReasonTrustStoreMissing, strings.Join(lo.Map(unusable, func(s trust.Store, _ int) string {
			return fmt.Sprintf("trust store %q cannot be used: %s", s.Ref, s.Problem)
		}), "; ")
	}
	for _, store := range used {
		if reason, message := assessStore(store, 1, now); reason != ReasonValid {
			return reason, fmt.Sprintf("trust store %q: %s", store.Ref, message)
		}
	}
	return ReasonValid, fmt.Sprintf("%d statements can be used", len(r.Spec.TrustPolicies)) + daysLeft(earliest(used), now)
}

// storesOf gives the trust stores that a policy names. A store that does not exist gets a Problem that says so.
func storesOf(r PolicyResource, snapshot trust.Snapshot) []trust.Store {
	named := lo.Uniq(lo.FlatMap(r.Spec.TrustPolicies, func(s PolicyStatement, _ int) []string { return s.TrustStores }))
	slices.Sort(named)
	return lo.Map(named, func(written string, _ int) trust.Store {
		kind, name, _ := strings.Cut(written, ":")
		ref := trust.StoreRef{Type: kind, Name: name}
		store, ok := snapshot.Stores[ref]
		if !ok {
			return trust.Store{Ref: ref, Problem: "it does not exist"}
		}
		return store
	})
}

// earliest is when the first certificate of the stores expires; zero without certificates.
func earliest(stores []trust.Store) time.Time {
	ends := lo.FilterMap(stores, func(s trust.Store, _ int) (time.Time, bool) { return s.NotAfter(), !s.NotAfter().IsZero() })
	if len(ends) == 0 {
		return time.Time{}
	}
	return slices.MinFunc(ends, time.Time.Compare)
}

// next is the status that follows s. Conditions of other types belong to others and stay.
func (s Status) next(generation int64, reason, message string, notAfter, now time.Time) Status {
	ready := metav1.Condition{
		Type: ConditionReady, Status: metav1.ConditionFalse, ObservedGeneration: generation,
		LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)), Reason: reason, Message: bounded(message),
	}
	if reason == ReasonValid {
		ready.Status = metav1.ConditionTrue
	}
	status := Status{ObservedGeneration: generation, Conditions: slices.Clone(s.Conditions)}
	meta.SetStatusCondition(&status.Conditions, ready) // keeps the time of the last transition where the state stays
	if !notAfter.IsZero() {
		status.NotAfter = &metav1.Time{Time: notAfter.UTC().Truncate(time.Second)}
	}
	return status
}

// maxMessage bounds a condition's message, bytes. Kubernetes allows 32 KiB, and subjects of certificates can be of any
// length.
const maxMessage = 4096

func bounded(message string) string {
	return reason.Clip(message, maxMessage)
}
