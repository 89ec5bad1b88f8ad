package main_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/dir"
	"github.com/notaryproject/notation-go/plugin"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	framework "github.com/notaryproject/notation-plugin-framework-go/plugin"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/plugintest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

const (
	name = "venafi-csp"
	x5u  = "com.venafi.notation.plugin.x5u"
)

// build compiles the stand-in once for all tests of this binary.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "standin")
	if err != nil {
		return "", err
	}
	return plugintest.Build(context.Background(), dir)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if binary, err := build(); err == nil {
		_ = os.RemoveAll(filepath.Dir(binary))
	}
	os.Exit(code)
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// installed makes a plugin directory with the stand-in in a mode.
func installed(t *testing.T, mode string) (pluginDir string) {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	pluginDir = t.TempDir()
	if err := plugintest.Install(binary, pluginDir, name, mode); err != nil {
		t.Fatal(err)
	}
	return pluginDir
}

// served is a platform that is trusted by the stand-ins of this test, and the configuration that names it.
func served(t *testing.T) (platform *signingtest.Platform, config map[string]string) {
	t.Helper()
	platform = must(signingtest.NewPlatform())
	t.Cleanup(func() { _ = platform.Close() })
	file, ca, err := platform.Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", ca)
	return platform, map[string]string{"config": file}
}

// asPlugin finds the stand-in as notation does.
func asPlugin(t *testing.T, pluginDir string) framework.Plugin {
	t.Helper()
	found, err := plugin.NewCLIManager(dir.NewSysFS(pluginDir)).Get(t.Context(), name)
	if err != nil {
		t.Fatalf("find the plugin: %v", err)
	}
	return found
}

// aRequest asks about a signer, who is "CN=signer,O=Example,ST=WA,C=US", and whom the platform serves.
func aRequest(platform *signingtest.Platform, identities ...string) *framework.VerifySignatureRequest {
	signer := must(must(signingtest.NewCA(signingtest.Options{})).Issue(signingtest.LeafOptions{}))
	var chain [][]byte
	for _, certificate := range signer.Chain {
		chain = append(chain, certificate.Raw)
	}
	return &framework.VerifySignatureRequest{
		Signature: framework.Signature{
			CriticalAttributes: framework.CriticalAttributes{
				ContentType:        "application/vnd.cncf.notary.payload.v1+json",
				SigningScheme:      "notary.x509",
				ExtendedAttributes: map[string]any{x5u: platform.X5U(signer.Certificate)},
			},
			UnprocessedAttributes: []string{x5u},
			CertificateChain:      chain,
		},
		TrustPolicy: framework.TrustPolicy{
			TrustedIdentities:     identities,
			SignatureVerification: []framework.Capability{framework.CapabilityTrustedIdentityVerifier},
		},
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	const signs, identity, revocation = framework.CapabilityEnvelopeGenerator, framework.CapabilityTrustedIdentityVerifier, framework.CapabilityRevocationCheckVerifier
	for mode, want := range map[string]framework.GetMetadataResponse{
		"":      {Version: "0.3.2", Capabilities: []framework.Capability{signs, identity}},
		"0.3.0": {Version: "0.3.0-release", Capabilities: []framework.Capability{signs, identity, revocation}},
		"0.3.3": {Version: "0.3.3", Capabilities: []framework.Capability{signs}},
	} {
		metadata, err := asPlugin(t, installed(t, mode)).GetMetadata(t.Context(), &framework.GetMetadataRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if metadata.Name != name || metadata.Version != want.Version || !slices.Equal(metadata.Capabilities, want.Capabilities) {
			t.Errorf("in mode %q: metadata %+v, want %+v", mode, metadata, want)
		}
	}
}

func TestVerifySignature(t *testing.T) {
	platform, config := served(t)
	other := must(must(signingtest.NewCA(signingtest.Options{})).Issue(signingtest.LeafOptions{CommonName: "someone else"}))
	named := func(address string) func(*framework.VerifySignatureRequest) {
		return func(r *framework.VerifySignatureRequest) {
			r.Signature.CriticalAttributes.ExtendedAttributes[x5u] = address
		}
	}
	tests := map[string]struct {
		identities []string
		mode       string
		change     func(*framework.VerifySignatureRequest)
		reason     string // part of the reason to refuse; empty is success
		fails      string // part of the error; empty is none
	}{
		"everyone is trusted by a wildcard":           {identities: []string{"*"}},
		"the whole subject is a trusted identity":     {identities: []string{"x509.subject: C=US, ST=WA, O=Example, CN=signer"}},
		"a part of the subject is enough":             {identities: []string{"x509.subject:C=US,ST=WA,O=Example"}},
		"one of several identities is enough":         {identities: []string{"x509.subject: O=Other", "x509.subject: O=Example"}},
		"another organization is refused":             {identities: []string{"x509.subject: C=US, ST=WA, O=Other"}, reason: "not among the trusted identities"},
		"an escaped comma does not end an attribute":  {identities: []string{`x509.subject: O=Example\, Inc.`}, reason: "not among the trusted identities"},
		"an identity of another kind trusts everyone": {identities: []string{"other: O=Other"}},
		"the mode makes it refuse":                    {identities: []string{"*"}, mode: "refuse", reason: "does not know this certificate"},
		"without x5u it refuses": {
			identities: []string{"*"},
			change:     func(r *framework.VerifySignatureRequest) { r.Signature.CriticalAttributes.ExtendedAttributes = nil },
			reason:     "Trusted Identity verification requires TPP 23.1+ and plugin 0.2+",
		},
		"another contract version is an error": {
			identities: []string{"*"},
			change:     func(r *framework.VerifySignatureRequest) { r.ContractVersion = "2.0" },
			fails:      "not a supported notary plugin contract version",
		},
		"a certificate that the platform does not know is refused": {
			identities: []string{"*"}, change: named(strings.Split(platform.URL(), "/vedsdk")[0] + "/vedsdk/pks/lookup?id=0"),
			reason: "404 Not Found",
		},
		"up to 0.3.2 anyone's certificate at x5u stands in for the signer's": {
			identities: []string{"x509.subject: C=US, ST=WA, O=Example, CN=someone else"}, change: named(platform.X5U(other.Certificate)),
		},
		"0.3.3 refuses a certificate of another key": {
			identities: []string{"*"}, mode: "0.3.3", change: named(platform.X5U(other.Certificate)),
			reason: "public key does not match",
		},
		"0.3.3 refuses another host, and asks nobody": {
			identities: []string{"*"}, mode: "0.3.3", change: named("https://tpp.example.com/1"),
			reason: "does not match configured endpoint",
		},
		"0.3.3 accepts the signer's own certificate": {identities: []string{"*"}, mode: "0.3.3"},
		"0.3.3 needs its configuration": {
			identities: []string{"*"}, mode: "0.3.3",
			change: func(r *framework.VerifySignatureRequest) { r.PluginConfig = nil },
			reason: "requires pluginConfig[config]",
		},
		"an address that serves no PEM crashes it": {
			identities: []string{"*"}, change: named(platform.Serve([]byte("no certificate"))), fails: "invalid character 'p'",
		},
		"an address that is no text crashes it": {
			identities: []string{"*"},
			change:     func(r *framework.VerifySignatureRequest) { r.Signature.CriticalAttributes.ExtendedAttributes[x5u] = 1 },
			fails:      "invalid character 'p'",
		},
		"a request without certificates is an error": {
			identities: []string{"*"},
			change:     func(r *framework.VerifySignatureRequest) { r.Signature.CertificateChain = nil },
			fails:      "certificateChain cannot be empty",
		},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			request := aRequest(platform, test.identities...)
			request.PluginConfig = config
			if test.change != nil {
				test.change(request)
			}
			answer, err := asPlugin(t, installed(t, test.mode)).VerifySignature(t.Context(), request)
			expectAnswer(t, answer, err, test.reason, test.fails)
		})
	}
}

// expectAnswer fails unless the plugin refused for the reason, or failed so;
// it succeeded where both are empty.
func expectAnswer(t *testing.T, answer *framework.VerifySignatureResponse, err error, reason, fails string) {
	t.Helper()
	if (err == nil) != (fails == "") || err != nil && !strings.Contains(err.Error(), fails) {
		t.Fatalf("error %v, want %q", err, fails)
	}
	if err != nil {
		return
	}
	result := answer.VerificationResults[framework.CapabilityTrustedIdentityVerifier]
	if result.Success != (reason == "") || !strings.Contains(result.Reason, reason) {
		t.Errorf("result %+v, want the reason %q", result, reason)
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	var malformed *plugin.PluginMalformedError
	var broken *plugin.PluginExecutableFileError
	tests := map[string]struct {
		mode string
		want func(*framework.GetMetadataResponse, error) bool
	}{
		"a crash says nothing":              {mode: "crash", want: isError(&broken)},
		"garbage is not JSON":               {mode: "garbage", want: isError(&malformed)},
		"a flood is more than is read":      {mode: "flood", want: isAnyError},
		"a flood of errors is more as well": {mode: "flood-stderr", want: isAnyError},
		"a hang outlasts the deadline":      {mode: "hang", want: isAnyError},
		"an unknown mode is an error":       {mode: "no such mode", want: isAnyError},
		"a wrong version is lower": {mode: "wrong-version", want: func(m *framework.GetMetadataResponse, err error) bool {
			return err == nil && m.Version == "0.1.0"
		}},
		"a version may be none": {mode: "not-semver", want: func(m *framework.GetMetadataResponse, err error) bool {
			return err == nil && m.Version == "latest"
		}},
		"a version may verify nothing": {mode: "no-capability", want: func(m *framework.GetMetadataResponse, err error) bool {
			return err == nil && m.Version == "0.9.0" && !m.HasCapability(framework.CapabilityTrustedIdentityVerifier)
		}},
		"a slow answer is an answer": {mode: "slow:50ms", want: func(_ *framework.GetMetadataResponse, err error) bool {
			return err == nil
		}},
		"a mode of the other command does not show": {mode: "verify-signature:crash", want: func(_ *framework.GetMetadataResponse, err error) bool {
			return err == nil
		}},
		"a mode of this command shows": {mode: "get-plugin-metadata:crash", want: isAnyError},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			metadata, err := asPlugin(t, installed(t, test.mode)).GetMetadata(ctx, &framework.GetMetadataRequest{})
			if !test.want(metadata, err) {
				t.Errorf("metadata %+v, error %v", metadata, err)
			}
		})
	}
}

func isAnyError(_ *framework.GetMetadataResponse, err error) bool { return err != nil }

func isError[E error](_ *E) func(*framework.GetMetadataResponse, error) bool {
	return func(_ *framework.GetMetadataResponse, err error) bool {
		var target E
		return errors.As(err, &target)
	}
}

func TestHangChildOutlivesItsParent(t *testing.T) {
	t.Parallel()
	pluginDir := installed(t, "hang-child")
	home := filepath.Join(pluginDir, name)
	told := filepath.Join(home, "child")
	if err := syscall.Mkfifo(told, 0o600); err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(filepath.Join(home, "notation-"+name), string(framework.CommandGetMetadata))
	output := must(parent.StdoutPipe())
	defer output.Close()
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	text := must(os.ReadFile(told)) // which waits for who writes to it
	child := must(os.FindProcess(must(strconv.Atoi(string(text)))))
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := parent.Process.Wait(); err != nil {
		t.Fatal(err)
	}
	if n, err := readNow(t, output.(*os.File)); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("with the parent stdout ends: %d bytes, %v", n, err)
	}
	if err := child.Kill(); err != nil {
		t.Errorf("the child ended by itself: %v", err)
	}
	if n, err := output.Read(make([]byte, 1)); n != 0 || err != io.EOF { // waits for the last writer to end
		t.Errorf("with the child stdout does not end: %d bytes, %v", n, err)
	}
}

// readNow reads from a pipe without waiting; the error is EAGAIN where somebody may yet write to it.
func readNow(t *testing.T, pipe *os.File) (n int, err error) {
	t.Helper()
	direct := must(pipe.SyscallConn())
	if failed := direct.Read(func(fd uintptr) bool {
		n, err = syscall.Read(int(fd), make([]byte, 1))
		return true
	}); failed != nil {
		t.Fatal(failed)
	}
	return n, err
}

func TestCallsCountProcesses(t *testing.T) {
	platform, _ := served(t)
	pluginDir := installed(t, "")
	standin := asPlugin(t, pluginDir)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := standin.GetMetadata(t.Context(), &framework.GetMetadataRequest{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := plugintest.SetMode(pluginDir, name, "crash"); err != nil {
		t.Fatal(err)
	}
	if _, err := standin.VerifySignature(t.Context(), aRequest(platform, "*")); err == nil {
		t.Error("the mode did not change")
	}
	calls := must(plugintest.Calls(pluginDir, name))
	if len(calls) != 9 {
		t.Fatalf("%d calls, want 9: %v", len(calls), calls)
	}
	for i, call := range calls {
		command, pid, _ := strings.Cut(call, " ")
		want := framework.CommandGetMetadata
		if i == 8 {
			want = framework.CommandVerifySignature
		}
		if _, err := strconv.Atoi(pid); err != nil || command != string(want) {
			t.Errorf("call %d is %q, want %s and a process id", i, call, want)
		}
	}
}

// roots is a trust store with the same certificates in every store.
type roots []*x509.Certificate

func (r roots) GetCertificates(context.Context, truststore.Type, string) ([]*x509.Certificate, error) {
	return r, nil
}

func TestNotationVerifiesThroughIt(t *testing.T) {
	platform, _ := served(t)
	ca := must(signingtest.NewCA(signingtest.Options{}))
	signer := must(ca.Issue(signingtest.LeafOptions{}))
	venafi := func() *signingtest.PluginAttributes {
		attributes := signingtest.Venafi()
		attributes.X5U = platform.X5U(signer.Certificate)
		return attributes
	}
	withOther := venafi()
	withOther.Other = map[string]string{"com.example.other": "value"}
	tests := map[string]struct {
		mode    string
		plugin  *signingtest.PluginAttributes
		refusal string // part of notation's error; empty is success
		calls   int
	}{
		"a signature of venafi-csp is verified":         {plugin: venafi(), calls: 2},
		"a signature without plugin does not ask it":    {},
		"an identity it refuses is refused":             {mode: "refuse", plugin: venafi(), refusal: "does not know this certificate", calls: 2},
		"a plugin that is too old is refused":           {mode: "wrong-version", plugin: venafi(), refusal: "needs plugin version greater than or equal to 0.2.0", calls: 1},
		"a plugin without a proper version is refused":  {mode: "not-semver", plugin: venafi(), refusal: "not in valid semver format", calls: 1},
		"a plugin that verifies nothing is refused":     {mode: "no-capability", plugin: venafi(), refusal: "with signature verification capabilities", calls: 1},
		"a plugin that crashes verifies nothing":        {mode: "verify-signature:crash", plugin: venafi(), refusal: "exit status 2", calls: 2},
		"a signature without x5u is refused":            {plugin: &signingtest.PluginAttributes{Name: name, MinVersion: "0.2.0"}, refusal: "requires TPP 23.1+", calls: 2},
		"an attribute that it does not know is refused": {plugin: withOther, refusal: "was not processed by the verification plugin", calls: 2},
	}
	artifact := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: 1}
	for sentence, test := range tests {
		for _, format := range []string{signingtest.JWS, signingtest.COSE} {
			t.Run(fmt.Sprintf("%s as %s", sentence, format), func(t *testing.T) {
				t.Parallel()
				pluginDir := installed(t, test.mode)
				envelope := must(signer.Sign(t.Context(), signingtest.SignRequest{Subject: artifact, Format: format, Plugin: test.plugin}))
				manager := plugin.NewCLIManager(dir.NewSysFS(pluginDir))
				v := must(verifier.New(strict(), roots{ca.Certificate}, manager))
				_, err := v.Verify(t.Context(), artifact, envelope, notation.VerifierVerifyOptions{
					ArtifactReference:  "registry.example.com/app@" + string(artifact.Digest),
					SignatureMediaType: format,
				})
				if (err == nil) != (test.refusal == "") || err != nil && !strings.Contains(err.Error(), test.refusal) {
					t.Errorf("error %v, want %q", err, test.refusal)
				}
				if calls := must(plugintest.Calls(pluginDir, name)); len(calls) != test.calls {
					t.Errorf("calls %v, want %d", calls, test.calls)
				}
			})
		}
	}
}

func strict() *trustpolicy.Document {
	return &trustpolicy.Document{
		Version: "1.0",
		TrustPolicies: []trustpolicy.TrustPolicy{{
			Name:                  "everything",
			RegistryScopes:        []string{"*"},
			SignatureVerification: trustpolicy.SignatureVerification{VerificationLevel: "strict"},
			TrustStores:           []string{"ca:test"},
			TrustedIdentities:     []string{"*"},
		}},
	}
}
