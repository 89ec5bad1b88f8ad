package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// TestCheckAttests checks real images, of which one is verified, and has a library of DSSE verify what is attested.
func TestCheckAttests(t *testing.T) {
	dir := t.TempDir()
	images, _ := decisionsOn(t, dir, "signed", "unsigned")
	key, file := filepath.Join(dir, "private.pem"), filepath.Join(dir, "vsa.jsonl")
	verifier := newSigningKey(t, key)
	host, _, _ := strings.Cut(images["signed"], "/")
	arguments := []string{"check", images["signed"], images["signed"], images["unsigned"], "--trustDir", filepath.Join(dir, "trust"), "--trustPolicy", scenariotest.PolicyName,
		"--allowLoopback", "--insecureRegistries", host, "--dockerConfig", filepath.Join(dir, "none.json"), "--pluginDir", filepath.Join(dir, "plugins"), "--vsa", file}
	check := func(more ...string) (int, string) {
		var said bytes.Buffer
		return run("kyverno-notation-venafi", append(arguments, more...), &said, &said), said.String()
	}
	if status, said := check(); status != 2 || !strings.Contains(said, "--vsa needs --key and --verifier") {
		t.Errorf("without a key %d %s", status, said)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("without a key there are attestations")
	}
	status, said := check("--key", key, "--verifier", "https://acme.example/verifier", "--level", "ACME_SIGNED")
	text, err := os.ReadFile(file)
	if status != exitDenied || err != nil || bytes.Count(text, []byte("\n")) != 1 {
		t.Fatalf("%d %s: %d attestations %s, %v", status, said, bytes.Count(text, []byte("\n")), text, err)
	}
	var envelope dsse.Envelope
	if err := json.Unmarshal(text, &envelope); err != nil {
		t.Fatal(err)
	}
	if _, err := verifier.Verify(t.Context(), &envelope); err != nil {
		t.Fatal(err)
	}
	payload, err := envelope.DecodeB64Payload()
	_, digest, _ := strings.Cut(images["signed"], "@sha256:")
	for _, want := range []string{digest, `"verificationResult":"PASSED"`, "ACME_SIGNED", "trustpolicies/" + scenariotest.PolicyName, "https://acme.example/verifier"} {
		if err != nil || !strings.Contains(string(payload), want) {
			t.Errorf("%s does not hold %s (%v)", payload, want, err)
		}
	}
}
