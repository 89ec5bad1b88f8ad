package core

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

func TestSamplesDecideOnRealDocuments(t *testing.T) {
	scanned := time.Date(2026, 1, 15, 9, 30, 0, 0, time.UTC)
	soon, late, early := scanned.Add(24*time.Hour), scanned.Add(169*time.Hour), scanned.Add(-time.Hour)
	gpl, provenance := "licences-cyclonedx.yaml", "provenance-slsa.yaml"
	tests := map[string]struct {
		sample, document string
		now              time.Time
		want             reason.Code
		says             string
	}{
		"CycloneDX without copyleft":            {gpl, "cyclonedx-good.json", soon, reason.Verified, ""},
		"CycloneDX with the GPL as id":          {gpl, "cyclonedx-gpl-id.json", soon, reason.ConditionUnmet, `"GPL-3.0-or-later"`},
		"CycloneDX with the GPL in expression":  {gpl, "cyclonedx-gpl-expression.json", soon, reason.ConditionUnmet, `"MIT AND GPL-3.0-only"`},
		"CycloneDX with the GPL as name":        {gpl, "cyclonedx-gpl-name.json", soon, reason.ConditionUnmet, `"GNU General Public License v3 (GPLv3)"`},
		"SPDX without copyleft":                 {"licences-spdx.yaml", "spdx-good.json", soon, reason.Verified, ""},
		"SPDX with the GPL declared":            {"licences-spdx.yaml", "spdx-gpl-declared.json", soon, reason.ConditionUnmet, `"BSD-3-Clause AND GPL-3.0-or-later"`},
		"SPDX with the GPL concluded":           {"licences-spdx.yaml", "spdx-gpl-concluded.json", soon, reason.ConditionUnmet, `"GPL-2.0-only"`},
		"SPDX of an old licence list":           {"licences-spdx.yaml", "spdx-old-list.json", soon, reason.ConditionUnmet, "licence list 3.20 or later"},
		"SPDX without a licence list":           {"licences-spdx.yaml", "spdx-no-list.json", soon, reason.ConditionUnmet, "licence list 3.20 or later"},
		"SARIF without results":                 {"severity-sarif.yaml", "sarif-clean.json", soon, reason.Verified, ""},
		"SARIF with notes":                      {"severity-sarif.yaml", "sarif-good.json", soon, reason.Verified, ""},
		"SARIF with an error":                   {"severity-sarif.yaml", "sarif-error.json", soon, reason.ConditionUnmet, "the scan found errors"},
		"SARIF with a severe warning":           {"severity-sarif.yaml", "sarif-severe-warning.json", soon, reason.ConditionUnmet, `found ["CVE-2024-24790"]`},
		"provenance of the builder":             {provenance, "provenance-v1-good.json", soon, reason.Verified, ""},
		"provenance of another builder":         {provenance, "provenance-v1-other-builder.json", soon, reason.ConditionUnmet, `found "https://github.com/mallory/`},
		"provenance of another source":          {provenance, "provenance-v1-other-source.json", soon, reason.ConditionUnmet, "build it from a repository of acme"},
		"provenance of a pattern for a builder": {provenance, "provenance-v1-pattern.json", soon, reason.ConditionUnmet, `found "*"`},
		"provenance of another version":         {provenance, "provenance-v0.2-good.json", soon, reason.ConditionUnmet, `found "https://slsa.dev/provenance/v0.2"`},
		"provenance v0.2 of the builder":        {"provenance-slsa-v0.2.yaml", "provenance-v0.2-good.json", soon, reason.Verified, ""},
		"provenance v0.2 of another builder":    {"provenance-slsa-v0.2.yaml", "provenance-v0.2-other-builder.json", soon, reason.ConditionUnmet, "or with Tekton Chains"},
		"a fresh scan of trivy":                 {"scan-age.yaml", "scan-trivy.json", soon, reason.Verified, ""},
		"a fresh scan of grype":                 {"scan-age.yaml", "scan-grype.json", soon, reason.Verified, ""},
		"a stale scan of trivy":                 {"scan-age.yaml", "scan-trivy.json", late, reason.ConditionUnmet, `found "169h0m0s"`},
		"a stale scan of grype":                 {"scan-age.yaml", "scan-grype.json", late, reason.ConditionUnmet, "scan the image again"},
		"a scan from the future":                {"scan-age.yaml", "scan-trivy.json", early, reason.ConditionUnmet, "lies in the future"},
		"a scan without a date":                 {"scan-age.yaml", "scan-undated.json", soon, reason.ConditionInvalid, "descriptor"},
		"a fresh scan with critical findings":   {"scan-age.yaml", "scan-grype-critical.json", soon, reason.ConditionUnmet, `found ["Critical"]`},
	}
	used := map[string]map[reason.Code]bool{}
	for sentence, test := range tests {
		if used[test.sample] == nil {
			used[test.sample] = map[reason.Code]bool{}
		}
		used[test.sample][test.want] = true
		t.Run(sentence, func(t *testing.T) {
			document, err := os.ReadFile("../testdata/attestations/" + test.document)
			if err != nil {
				t.Fatal(err)
			}
			result := judge(t, sampleOf(t, test.sample), document, test.now)
			if result.Code != test.want || !strings.Contains(result.Reason, test.says) {
				t.Errorf("%s: %s\nwant %s: ...%s...", result.Code, result.Reason, test.want, test.says)
			}
		})
	}
	everySampleIsUsed(t, used)
}

func everySampleIsUsed(t *testing.T, used map[string]map[reason.Code]bool) {
	t.Helper()
	samples, err := filepath.Glob("../config/samples/attestations/*.yaml")
	if err != nil || len(samples) == 0 {
		t.Fatalf("%d samples: %v", len(samples), err)
	}
	for _, sample := range samples {
		if codes := used[filepath.Base(sample)]; !codes[reason.Verified] || !codes[reason.ConditionUnmet] {
			t.Errorf("%s is not tested with a good and a bad document", sample)
		}
	}
}

// sampleOf reads a sample and takes the backslashes off, as Kyverno does when it resolves a policy's data.
func sampleOf(t *testing.T, name string) any {
	t.Helper()
	text, err := os.ReadFile("../config/samples/attestations/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var sample map[string]any
	if err := yaml.UnmarshalStrict([]byte(strings.ReplaceAll(string(text), `\\{{`, "{{")), &sample); err != nil {
		t.Fatal(err)
	}
	return sample["attestations"]
}

// judge decides on one image that carries a trusted attestation of each type that is asked for.
func judge(t *testing.T, attestations any, document []byte, now time.Time) Result {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"object":      map[string]any{"apiVersion": "v1", "kind": "Pod", "spec": map[string]any{"containers": []any{map[string]any{"name": "web", "image": "ghcr.io/acme/app:v1"}}}},
		"trustPolicy": "demo", "attestations": attestations,
	})
	if err != nil {
		t.Fatal(err)
	}
	request, err := ParseRequest(body)
	if err != nil {
		t.Fatal(err)
	}
	statement := trust.Statement{Name: "everything", RegistryScopes: []string{"*"}, Level: "strict"}
	plan, err := NewPlan(request, trust.Snapshot{Policies: map[string]trust.Policy{"demo": {Name: "demo", Statements: []trust.Statement{statement}}}}, "")
	if err != nil {
		t.Fatal(err)
	}
	trusted := verification.SignatureFact{Verified: true, Signer: "CN=Acme"}
	fact := verification.Fact{Digest: "sha256:" + strings.Repeat("1", 64), Signature: trusted}
	for _, demand := range plan.Tasks[0].Attestations {
		evaluation := verification.Evaluate(demand, document, now, nil)
		attestation := verification.AttestationFact{Digest: "sha256:" + strings.Repeat("2", 64), Signature: trusted, Evaluation: &evaluation}
		fact.Attestations = append(fact.Attestations, verification.AttestationsFact{Candidates: []verification.AttestationFact{attestation}})
	}
	return Decide(plan, []verification.Fact{fact}, now).Results[0]
}
