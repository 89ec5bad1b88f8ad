package trust_test

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

const day = 24 * time.Hour

func TestWarningsFollowTheThresholds(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for sentence, test := range map[string]struct {
		left         time.Duration
		says, reason string // "" for no warning
	}{
		"a year":                {365 * day, "", ""},
		"a little over 30 days": {30*day + time.Minute, "", ""},
		"30 days":               {30 * day, "expires within 30 days", shelltrust.ReasonCertificateExpires},
		"a little over 7 days":  {7*day + time.Minute, "expires within 30 days", shelltrust.ReasonCertificateExpires},
		"7 days":                {7 * day, "expires within 7 days", shelltrust.ReasonCertificateExpires},
		"a day and a half":      {36 * time.Hour, "expires within 7 days", shelltrust.ReasonCertificateExpires},
		"a day":                 {day, "expires within 1 day", shelltrust.ReasonCertificateExpires},
		"a minute":              {time.Minute, "expires within 1 day", shelltrust.ReasonCertificateExpires},
		"nothing":               {-time.Minute, "has expired", shelltrust.ReasonCertificateExpired},
	} {
		t.Run(sentence, func(t *testing.T) {
			resource := store("a", "a", bundle(t, now.Add(test.left)))
			warnings := shelltrust.Warnings([]shelltrust.StoreResource{resource}, now)
			condition := meta.FindStatusCondition(shelltrust.Assess(nil, []shelltrust.StoreResource{resource}, now).Stores["a"].Conditions, shelltrust.ConditionExpiring)
			if test.says == "" {
				if len(warnings) != 0 || condition != nil {
					t.Errorf("warnings %+v, condition %+v", warnings, condition)
				}
				return
			}
			if len(warnings) != 1 || warnings[0].Threshold != test.says || warnings[0].Reason != test.reason || warnings[0].Store != "a" {
				t.Fatalf("warnings %+v; want %q", warnings, test.says)
			}
			if condition == nil || condition.Reason != test.reason || condition.Message != warnings[0].Text {
				t.Errorf("condition %+v; want %s, %s", condition, test.reason, warnings[0].Text)
			}
		})
	}
}

// TestWarningsAreGivenOncePerThreshold while a store of two certificates ages day by day.
func TestWarningsAreGivenOncePerThreshold(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	resource := store("a", "a", bundle(t, now.Add(40*day))+bundle(t, now.Add(50*day)))
	told := map[string]int{}
	for at := now; at.Before(now.Add(60 * day)); at = at.Add(6 * time.Hour) {
		for _, warning := range shelltrust.Warnings([]shelltrust.StoreResource{resource}, at) {
			told[warning.Fingerprint+" "+warning.Threshold]++
		}
		resource.Status = shelltrust.Assess(nil, []shelltrust.StoreResource{resource}, at).Stores["a"]
	}
	if len(told) != 8 {
		t.Errorf("told %v; want four thresholds of two certificates", told)
	}
	for what, times := range told {
		if times != 1 {
			t.Errorf("%s: %d times", what, times)
		}
	}
}

func TestAssessDropsTheConditionOfARenewedStore(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	resource := store("a", "a", bundle(t, now.Add(day)))
	resource.Status = shelltrust.Assess(nil, []shelltrust.StoreResource{resource}, now).Stores["a"]
	resource.Spec.CABundle = bundle(t, now.Add(1000*day))
	after := shelltrust.Assess(nil, []shelltrust.StoreResource{resource}, now).Stores["a"]
	if meta.FindStatusCondition(resource.Status.Conditions, shelltrust.ConditionExpiring) == nil || meta.FindStatusCondition(after.Conditions, shelltrust.ConditionExpiring) != nil {
		t.Errorf("before %+v, after %+v", resource.Status.Conditions, after.Conditions)
	}
}

// TestWarningsWithoutAnEventAreGivenAgain until there is one.
func TestWarningsWithoutAnEventAreGivenAgain(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	resource := store("a", "a", bundle(t, now.Add(20*day)))
	resource.Status = shelltrust.Assess(nil, []shelltrust.StoreResource{resource}, now).Stores["a"] // the event of 30 days is recorded
	later := now.Add(15 * day)
	assessed := shelltrust.Assess(nil, []shelltrust.StoreResource{resource}, later).Stores["a"]
	resource.Status = assessed.WithoutUnsent(resource.Status)
	if ready := meta.FindStatusCondition(resource.Status.Conditions, shelltrust.ConditionReady); ready == nil || !strings.Contains(ready.Message, "days left: 5") {
		t.Errorf("the rest of the status: %+v", resource.Status.Conditions)
	}
	news := shelltrust.Warnings([]shelltrust.StoreResource{resource}, later)
	if len(news) != 1 || news[0].Threshold != "expires within 7 days" {
		t.Errorf("news %+v", news)
	}
	if first := assessed.WithoutUnsent(shelltrust.Status{}); meta.FindStatusCondition(first.Conditions, shelltrust.ConditionExpiring) != nil {
		t.Errorf("a warning without event is recorded: %+v", first.Conditions)
	}
}

// TestAssessBoundsTheMessageOfManyCertificates and lists the most urgent ones first.
func TestAssessBoundsTheMessageOfManyCertificates(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	pem := bundle(t, now.Add(-day))
	for i := range 20 {
		pem = bundle(t, now.Add(time.Duration(i+2)*day)) + pem
	}
	condition := meta.FindStatusCondition(shelltrust.Assess(nil, []shelltrust.StoreResource{store("a", "a", pem)}, now).Stores["a"].Conditions, shelltrust.ConditionExpiring)
	if condition == nil || condition.Reason != shelltrust.ReasonCertificateExpired || len(condition.Message) > 4200 || strings.Index(condition.Message, "has expired") > 100 {
		t.Errorf("%+v", condition)
	}
}
