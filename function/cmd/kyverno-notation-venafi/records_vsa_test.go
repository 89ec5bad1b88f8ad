package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	vsav1 "github.com/in-toto/attestation/go/predicates/vsa/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/secure-systems-lab/go-securesystemslib/signerverifier"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/core/ledger"
	"github.com/nirmata/kyverno-notation-venafi/core/recordkey"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/issuer"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/sealer"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// decisionsOn has a service decide on images, and gives their references by digest and the records.
func decisionsOn(t *testing.T, dir string, names ...string) (images map[string]string, decided [][]byte) {
	t.Helper()
	registry := registrytest.New(registrytest.Options{})
	t.Cleanup(registry.Close)
	scenario, err := scenariotest.New(registry.Host(), registry.Client(), true)
	if err != nil {
		t.Fatal(err)
	}
	trust, file := filepath.Join(dir, "trust"), filepath.Join(dir, "decisions.jsonl")
	if err := os.Mkdir(trust, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := scenario.WriteTrust(trust); err != nil {
		t.Fatal(err)
	}
	settings, _, err := function.LoadSettings("test", []string{
		"--trustDir", trust, "--defaultTrustPolicy", scenariotest.PolicyName, "--allowLoopback", "--insecureRegistries", registry.Host(), "--decisionLog", file,
		"--dockerConfig", filepath.Join(dir, "none.json"), "--pluginDir", filepath.Join(dir, "plugins"),
	}, func(string) (string, bool) { return "", false }, nil)
	if err != nil {
		t.Fatal(err)
	}
	service, err := function.New(settings, func(string) (string, bool) { return "", false }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	service.Start(t.Context())
	images = map[string]string{}
	for _, c := range scenariotest.Cases() {
		if !slices.Contains(names, c.Name) {
			continue
		}
		descriptor, err := scenario.Publish(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		images[c.Name] = registry.Host() + "/acme/" + c.Name + "@" + descriptor.Digest.String()
		answer := httptest.NewRecorder()
		service.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/verify", strings.NewReader(c.Request(scenario.Reference(c.Name)))))
		if answer.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", c.Name, answer.Code, answer.Body)
		}
	}
	service.Stop()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if record, ok := ledger.Record(line); ok {
			decided = append(decided, record)
		}
	}
	if len(decided) != len(names) {
		t.Fatalf("%d records of %d decisions", len(decided), len(names))
	}
	return images, decided
}

// sealRecords writes records into a log that is signed and closed, or open with the last of them unsigned.
func sealRecords(t *testing.T, dir string, records [][]byte, closed bool) (file, keys string) {
	t.Helper()
	key, err := issuer.RecordKey(recordkey.Policy{Duration: time.Hour}, time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	to := sealer.New(sealer.Options{
		Deliver: func(_ context.Context, lines [][]byte) error {
			for _, line := range lines {
				log.Write(append(line, '\n'))
			}
			return nil
		},
		Key: func() *certificates.Pair { return key }, Replica: "pod", SignAfter: uint64(len(records)), Log: slog.New(slog.DiscardHandler),
	})
	for _, record := range records {
		if err := to.Write(t.Context(), [][]byte{record}); err != nil {
			t.Fatal(err)
		}
	}
	if closed {
		to.Close(t.Context())
	}
	certificate, _, err := key.PEM()
	if err != nil {
		t.Fatal(err)
	}
	file, keys = filepath.Join(dir, "log.jsonl"), filepath.Join(dir, "keys.pem")
	for name, text := range map[string][]byte{file: log.Bytes(), keys: certificate} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file, keys
}

// newSigningKey writes a private key into a file, and gives who verifies with it.
func newSigningKey(t *testing.T, file string) *dsse.EnvelopeVerifier {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}), 0o600); err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256(public)
	one, err := signerverifier.NewECDSASignerVerifierFromSSLibKey(&signerverifier.SSLibKey{
		KeyID: hex.EncodeToString(id[:]), KeyType: signerverifier.ECDSAKeyType, Scheme: signerverifier.ECDSAKeyScheme,
		KeyVal: signerverifier.KeyVal{Public: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))},
	})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := dsse.NewEnvelopeVerifier(one)
	if err != nil {
		t.Fatal(err)
	}
	return verifier
}

// TestAttestRecords has a service decide on real images, and libraries of DSSE and in-toto verify what is attested of them.
func TestAttestRecords(t *testing.T) {
	dir := t.TempDir()
	images, decided := decisionsOn(t, dir, "signed", "unsigned", "sbom-met", "sbom-unmet", "plugin-missing")
	file, keys := sealRecords(t, dir, decided, true)
	private := filepath.Join(dir, "private.pem")
	verifier := newSigningKey(t, private)
	vsaOf := func(image string, more ...string) (int, string, string) {
		var out, failed strings.Builder
		status := run(program, append([]string{"records", "vsa", image, file, "--keys", keys, "--key", private, "--verifier", "https://acme.example/verifier"}, more...), &out, &failed)
		return status, out.String(), failed.String()
	}
	for name, want := range map[string]struct {
		result string
		inputs int // attestations and signatures
	}{"signed": {"PASSED", 1}, "unsigned": {"FAILED", 0}, "sbom-met": {"PASSED", 3}, "sbom-unmet": {"FAILED", 3}, "plugin-missing": {"FAILED", 0}} {
		t.Run(name, func(t *testing.T) {
			status, out, failed := vsaOf(images[name], "--level", "ACME_SIGNED")
			if status != exitWhole {
				t.Fatalf("exit status %d: %s", status, failed)
			}
			var envelope dsse.Envelope
			if err := json.Unmarshal([]byte(out), &envelope); err != nil {
				t.Fatal(err)
			}
			if _, err := verifier.Verify(t.Context(), &envelope); err != nil {
				t.Fatal(err)
			}
			payload, _ := envelope.DecodeB64Payload()
			statement, predicate := &intoto.Statement{}, &vsav1.VerificationSummary{}
			if err := protojson.Unmarshal(payload, statement); err != nil {
				t.Fatal(err)
			}
			delete(statement.GetPredicate().GetFields()["verifier"].GetStructValue().GetFields(), "version")
			text, _ := statement.GetPredicate().MarshalJSON()
			if err := protojson.Unmarshal(text, predicate); err != nil {
				t.Fatal(err)
			}
			repository, digest, _ := strings.Cut(images[name], "@sha256:")
			if subject := statement.GetSubject()[0]; subject.GetName() != repository || subject.GetDigest()["sha256"] != digest {
				t.Errorf("the subject is %v", subject)
			}
			if predicate.GetVerificationResult() != want.result || len(predicate.GetInputAttestations()) != want.inputs || len(predicate.GetPolicy().GetDigest()["sha256"]) != 64 {
				t.Errorf("it says %s", text)
			}
			if passed := slices.Contains(predicate.GetVerifiedLevels(), "ACME_SIGNED"); passed != (want.result == "PASSED") {
				t.Errorf("the levels are %v", predicate.GetVerifiedLevels())
			}
		})
	}
	repository, _, _ := strings.Cut(images["signed"], "@")
	for sentence, test := range map[string]struct {
		image  string
		more   []string
		status int
		says   string
	}{
		"an image that nobody asked about":        {repository + "@sha256:" + strings.Repeat("0", 64), nil, exitBroken, "the log has no decision about it"},
		"another repository with the same image":  {strings.Replace(images["signed"], "/acme/", "/other/", 1), nil, exitBroken, "the log has no decision about it"},
		"another trust policy":                    {images["signed"], []string{"--trustPolicy", "other"}, exitBroken, "the log has no decision about it"},
		"an image by its tag":                     {repository + ":v1", nil, 2, "is not named by its digest"},
		"a level of SLSA":                         {images["signed"], []string{"--level", "SLSA_BUILD_LEVEL_3"}, 2, "levels that begin with SLSA_"},
		"a verifier that is none":                 {images["signed"], []string{"--verifier", "me"}, 2, "is no URI"},
		"a key that is none":                      {images["signed"], []string{"--key", keys}, 2, "holds no private key"},
		"keys that did not sign the log":          {images["signed"], []string{"--keys", otherKeys(t, dir)}, exitBroken, "the log is not whole"},
		"no key, which no other way makes up for": {images["signed"], []string{"--key", ""}, 2, "--key and --verifier"},
	} {
		t.Run(sentence, func(t *testing.T) {
			if status, out, failed := vsaOf(test.image, test.more...); status != test.status || out != "" || !strings.Contains(failed, test.says) {
				t.Errorf("exit status %d: %s %s", status, out, failed)
			}
		})
	}
	t.Run("a record that is not signed yet", func(t *testing.T) {
		file, keys = sealRecords(t, dir, decided, false)
		last := ""
		for name, image := range images {
			if _, digest, _ := strings.Cut(image, "@"); bytes.Contains(decided[len(decided)-1], []byte(digest)) {
				last = images[name]
			}
		}
		if status, out, failed := vsaOf(last, "--open"); status != exitBroken || out != "" || !strings.Contains(failed, "not signed yet") {
			t.Errorf("exit status %d: %s %s", status, out, failed)
		}
	})
}

// otherKeys writes the public key of a stranger.
func otherKeys(t *testing.T, dir string) string {
	t.Helper()
	pair, err := issuer.RecordKey(recordkey.Policy{Duration: time.Hour}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certificate, _, _ := pair.PEM()
	file := filepath.Join(dir, "other.pem")
	if err := os.WriteFile(file, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
