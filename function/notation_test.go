package function_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/notaryproject/notation-go"
	notationdir "github.com/notaryproject/notation-go/dir"
	notationregistry "github.com/notaryproject/notation-go/registry"
	"github.com/notaryproject/notation-go/verifier"
	"oras.land/oras-go/v2/registry/remote"

	corenotation "github.com/nirmata/kyverno-notation-venafi/core/notation"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// exported gives the files of a trust policy of a trust directory.
func exported(t *testing.T, trustDir, policy string) []corenotation.File {
	t.Helper()
	resources, problems, err := shelltrust.ReadDir(trustDir)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	snapshot, _ := resources.Compile()
	files, err := corenotation.Export(snapshot.Policies[policy], snapshot.Stores)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestNotationVerifiesWithWhatIsExported: notation-go, with its own loader of policies and its own trust store on the directory, admits the
// image that is signed and refuses another, and what is imported from the directory is the trust that was exported.
func TestNotationVerifiesWithWhatIsExported(t *testing.T) {
	registry := registrytest.New(registrytest.Options{})
	t.Cleanup(registry.Close)
	s, err := scenariotest.New(registry.Host(), registry.Client(), true)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := signingtest.NewCA(signingtest.Options{CommonName: "Stranger"})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := stranger.Issue(signingtest.LeafOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, signer := range map[string]*signingtest.Signer{"signed": s.Signer(), "foreign": foreign} {
		if _, err := s.PushSigned(t.Context(), name, signer, &signingtest.SignRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	trustDir := t.TempDir()
	text := scenariotest.TrustStore("acme", s.Trusted.PEM()) + "---\n" + scenariotest.TrustPolicy(scenariotest.PolicyName, "strict", "ca:acme")
	if err := os.WriteFile(filepath.Join(trustDir, "trust.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "notation")
	if err := function.WriteNotation(dir, exported(t, trustDir, scenariotest.PolicyName)); err != nil {
		t.Fatal(err)
	}

	before := notationdir.UserConfigDir
	notationdir.UserConfigDir = dir
	t.Cleanup(func() { notationdir.UserConfigDir = before })
	real, err := verifier.NewFromConfig()
	if err != nil {
		t.Fatal(err)
	}
	for name, admitted := range map[string]bool{"signed": true, "foreign": false} {
		if err := notationVerifies(t.Context(), real, registry, s.Reference(name)); (err == nil) != admitted {
			t.Errorf("%s: %v; want admitted %t", name, err, admitted)
		}
	}

	files, err := function.ReadNotation(dir)
	if err != nil {
		t.Fatal(err)
	}
	imported, err := corenotation.Import(files)
	if err != nil {
		t.Fatal(err)
	}
	manifests, err := imported.Manifests(scenariotest.PolicyName)
	if err != nil {
		t.Fatal(err)
	}
	again := t.TempDir()
	if err := os.WriteFile(filepath.Join(again, "trust.yaml"), []byte(manifests), 0o600); err != nil {
		t.Fatal(err)
	}
	if one, two := revisionIn(t, trustDir), revisionIn(t, again); one != two {
		t.Errorf("the trust that is imported has another revision than that which was exported:\n%s", manifests)
	}
}

func notationVerifies(ctx context.Context, with notation.Verifier, registry *registrytest.Registry, reference string) error {
	repository, err := remote.NewRepository(reference)
	if err != nil {
		return err
	}
	repository.Client, repository.PlainHTTP = registry.Client(), true // as the registry of the test is
	descriptor, err := repository.Resolve(ctx, repository.Reference.Reference)
	if err != nil {
		return err
	}
	name := repository.Reference.Registry + "/" + repository.Reference.Repository + "@" + descriptor.Digest.String()
	_, _, err = notation.Verify(ctx, with, notationregistry.NewRepository(repository), notation.VerifyOptions{ArtifactReference: name, MaxSignatureAttempts: 10})
	return err
}

// revisionIn is that of the first statement of the scenario's policy in a directory.
func revisionIn(t *testing.T, dir string) string {
	t.Helper()
	resources, _, err := shelltrust.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, problems := resources.Compile()
	policy, ok := snapshot.Policies[scenariotest.PolicyName]
	if !ok || len(problems) > 0 || len(snapshot.Stores[trust.StoreRef{Type: "ca", Name: "acme"}].Certificates) == 0 {
		t.Fatal(problems)
	}
	return snapshot.Revision(policy, 0)
}

func TestWriteNotationOverwritesNothing(t *testing.T) {
	files := []corenotation.File{{Path: "trustpolicy.json", Data: []byte("{}")}, {Path: "truststore/x509/ca/acme/a.pem", Data: []byte("x")}}
	parent := t.TempDir()
	full := filepath.Join(parent, "full")
	if err := os.MkdirAll(filepath.Join(full, "localkeys"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := function.WriteNotation(full, files); err == nil || !strings.Contains(err.Error(), "holds localkeys already") {
		t.Errorf("%v", err)
	}
	for _, hostile := range []string{"../trustpolicy.json", "/etc/trustpolicy.json", "truststore/../../x", `truststore\x`, "", "."} {
		if err := function.WriteNotation(filepath.Join(parent, "hostile"), []corenotation.File{{Path: hostile}}); err == nil {
			t.Errorf("wrote %q", hostile)
		}
	}
	if entries, err := os.ReadDir(parent); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if err := function.WriteNotation(filepath.Join(parent, "new")+"/", files); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(filepath.Join(parent, "new", "truststore", "x509", "ca", "acme", "a.pem")); err != nil || string(data) != "x" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestReadNotationReadsTrustAlone(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"trustpolicy.json": "{}", "truststore/x509/ca/acme/a.pem": "x", "signingkeys.json": "secret", "localkeys/a.key": "secret", "config.json": "secret",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := function.ReadNotation(dir)
	if err != nil || len(files) != 2 || files[0].Path != "trustpolicy.json" || files[1].Path != "truststore/x509/ca/acme/a.pem" {
		t.Errorf("%+v, %v", files, err)
	}
	if err := os.WriteFile(filepath.Join(elsewhere, "a.pem"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"truststore/x509/ca/acme/link.pem", "truststore/x509/ca/linked", "trustpolicy.oci.json"} {
		path := filepath.Join(dir, filepath.FromSlash(link))
		if err := os.Symlink(elsewhere, path); err != nil {
			t.Fatal(err)
		}
		if _, err := function.ReadNotation(dir); err == nil || !strings.Contains(err.Error(), "no regular file") {
			t.Errorf("%s: %v", link, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(filepath.Join(dir, "truststore", "x509", "ca", "acme", "a.pem"), 1<<20+1); err != nil {
		t.Fatal(err)
	}
	if _, err := function.ReadNotation(dir); err == nil || !strings.Contains(err.Error(), "over 1048576 bytes") {
		t.Error(err)
	}
}
