package function_test

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/plugintest"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// release is the one whom the trust policies of these tests trust.
const release = `"x509.subject: C=US, ST=WA, O=Acme, CN=Acme Build"`

// startPlugin brings up a service over one policy, with the stand-in plugin in a mode.
func startPlugin(t *testing.T, mode, level, identities string, change setting) *bench {
	t.Helper()
	b := prepare(t, registrytest.Options{}, mode)
	b.trustOnly(t, statement(scenariotest.PolicyName, level, "", `"ca:acme"`, identities))
	b.serve(t, change)
	return b
}

// issue makes a signer of the trusted CA, or of the stranger's.
func issue(t *testing.T, ca *signingtest.CA, options signingtest.LeafOptions) *signingtest.Signer {
	t.Helper()
	signer, err := ca.Issue(options)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// pushVenafi pushes an image that is signed with the plugin and names an address.
func (b *bench) pushVenafi(t *testing.T, name string, signer *signingtest.Signer, address string) string {
	t.Helper()
	attributes := signingtest.Venafi()
	attributes.X5U = address
	if _, err := b.scenario.PushSigned(t.Context(), name, signer, &signingtest.SignRequest{Plugin: attributes}); err != nil {
		t.Fatal(err)
	}
	return b.scenario.Reference(name)
}

// verifications counts the plugin's processes that were shown a signature.
func (b *bench) verifications(t *testing.T) (n int) {
	t.Helper()
	calls, err := plugintest.Calls(b.pluginDir, "venafi-csp")
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range calls {
		if strings.HasPrefix(call, "verify-signature") {
			n++
		}
	}
	return n
}

// TestPluginsCannotVouchForUntrustedIdentities signs with a certificate of the trusted CA whose subject is not a trusted
// identity, and an x5u that names the certificate of one, with every version of the plugin and with one that accepts
// everything.
func TestPluginsCannotVouchForUntrustedIdentities(t *testing.T) {
	for _, mode := range []string{"", "0.3.0", "0.3.3", "agree"} {
		for level, want := range map[string]reason.Code{"strict": reason.SignatureUntrusted, "permissive": reason.SignatureUntrusted, "audit": reason.Verified} {
			t.Run(fmt.Sprintf("in mode %q under %s", mode, level), func(t *testing.T) {
				t.Parallel()
				b := startPlugin(t, mode, level, release, nil)
				reference := b.pushVenafi(t, "impostor", issue(t, b.scenario.Trusted, signingtest.LeafOptions{CommonName: "Mallory"}), b.scenario.Platform.X5U(b.scenario.Signer().Certificate))
				verdict := b.verdict(t, pod(reference))
				if got := verdict.Results[0]; got.Code != want || !strings.Contains(verdict.Message, "is not among the trusted identities") {
					t.Errorf("code %s, %q; want %s", got.Code, verdict.Message, want)
				}
				if n := b.verifications(t); n != 0 || b.scenario.Platform.Requests() != 0 {
					t.Errorf("the plugin saw the signature %d times, and asked %d times", n, b.scenario.Platform.Requests())
				}
				good := b.pushVenafi(t, "good", b.scenario.Signer(), b.scenario.Platform.X5U(b.scenario.Signer().Certificate))
				if got := b.verdict(t, pod(good)).Results[0]; got.Code != reason.Verified || len(got.Warnings) > 0 {
					t.Errorf("the one who is trusted: code %s, %q, %q", got.Code, got.Reason, got.Warnings)
				}
			})
		}
	}
}

// canary is a listener on loopback that counts connections.
func canary(t *testing.T) (address string, connections *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections = &atomic.Int64{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = connection.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String(), connections
}

// TestPluginsConnectToTheirPlatformOnly signs with x5u addresses outside of the plugin's platform, and expects no
// connection to them.
func TestPluginsConnectToTheirPlatformOnly(t *testing.T) {
	address, connections := canary(t)
	tests := map[string]struct {
		x5u    func(platform string) string // of the platform's "host:port"
		change setting
		says   string
	}{
		"another host":                    {func(string) string { return "https://" + address + "/1" }, nil, "is not that of the signing platform"},
		"another scheme":                  {func(p string) string { return "http://" + p + "/1" }, nil, "no https URL"},
		"another scheme and host":         {func(string) string { return "http://" + address + "/1" }, nil, "no https URL"},
		"the platform as a user":          {func(p string) string { return "https://" + p + "@" + address + "/1" }, nil, "user or a fragment"},
		"the platform behind a backslash": {func(p string) string { return "https://" + address + `\@` + p + "/1" }, nil, "no URL"},
		"the platform in a fragment":      {func(p string) string { return "https://" + address + "#@" + p + "/1" }, nil, "user or a fragment"},
		"no configuration names one": {
			func(p string) string { return "https://" + p + "/1" }, func(s *function.Settings) { s.PluginConfig = nil }, "has no key config",
		},
		"the file of the configuration is gone": {
			func(p string) string { return "https://" + p + "/1" },
			func(s *function.Settings) { s.PluginConfig = map[string]string{"config": "absent.ini"} }, "cannot be read",
		},
	}
	for sentence, test := range tests {
		for level, want := range map[string]reason.Code{"strict": reason.PluginRefused, "audit": reason.Verified} {
			t.Run(sentence+" under "+level, func(t *testing.T) {
				t.Parallel()
				if test.change != nil && want == reason.PluginRefused {
					want = reason.PluginFailed // what the platform is, the operator does not say
				}
				b := startPlugin(t, "", level, everyone, test.change)
				host := strings.TrimSuffix(strings.TrimPrefix(b.scenario.Platform.URL(), "https://"), "/vedsdk")
				verdict := b.verdict(t, pod(b.pushVenafi(t, "elsewhere", b.scenario.Signer(), test.x5u(host))))
				if got := verdict.Results[0]; got.Code != want || !strings.Contains(verdict.Message, test.says) {
					t.Errorf("code %s, %q; want %s and %q", got.Code, verdict.Message, want, test.says)
				}
				if n := b.verifications(t); n != 0 || connections.Load() != 0 || b.scenario.Platform.Requests() != 0 {
					t.Errorf("%d processes, %d connections elsewhere, %d to the platform", n, connections.Load(), b.scenario.Platform.Requests())
				}
			})
		}
	}
}

// TestPluginX5UHostsAreAllowed allows the hosts that --pluginX5UHosts names beside the platform of the configuration.
func TestPluginX5UHostsAreAllowed(t *testing.T) {
	b := prepare(t, registrytest.Options{}, "")
	host := strings.TrimSuffix(strings.TrimPrefix(b.scenario.Platform.URL(), "https://"), "/vedsdk")
	b.serve(t, func(s *function.Settings) { s.PluginConfig, s.PluginX5UHosts = nil, []string{" " + host} })
	reference, _ := b.publish(t, "plugin-signed")
	if got := b.verdict(t, pod(reference)).Results[0]; got.Code != reason.Verified {
		t.Errorf("code %s: %s", got.Code, got.Reason)
	}
	elsewhere := pod(b.pushVenafi(t, "elsewhere", b.scenario.Signer(), "https://mallory.example/1"))
	if got := b.verdict(t, elsewhere).Results[0]; got.Code != reason.PluginRefused { // and no failure, which a signer could choose
		t.Errorf("elsewhere: code %s: %s", got.Code, got.Reason)
	}
}

// TestSandboxSettingsAreRead expects an error that names the setting.
func TestSandboxSettingsAreRead(t *testing.T) {
	for want, change := range map[string]func(*function.Settings){
		`pluginSandbox: "on"`:          func(s *function.Settings) { s.PluginSandbox = "on" },
		`pluginSandboxPaths: "lib:rw"`: func(s *function.Settings) { s.PluginSandboxPaths = []string{"/lib", "lib:rw"} },
	} {
		settings, _, err := function.LoadSettings("test", []string{"--trustDir", t.TempDir(), "--pluginDir", t.TempDir()}, noEnvironment, nil)
		if err != nil {
			t.Fatal(err)
		}
		change(&settings)
		if _, err := function.New(settings, noEnvironment, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
}

// TestInvalidX5UAddressesAreDenied holds that a malformed x5u is a denial even if the platform is not known, since the
// signer could otherwise cause a failure.
func TestInvalidX5UAddressesAreDenied(t *testing.T) {
	b := startPlugin(t, "", "strict", everyone, func(s *function.Settings) { s.PluginConfig = map[string]string{"config": "absent.ini"} })
	nowhere := pod(b.pushVenafi(t, "nowhere", b.scenario.Signer(), "file:///etc/passwd"))
	if got := b.verdict(t, nowhere).Results[0]; got.Code != reason.PluginRefused {
		t.Errorf("code %s: %s", got.Code, got.Reason)
	}
}

// TestSignaturesWithoutPluginAttributeVerify verifies signatures that name no plugin without running one.
func TestSignaturesWithoutPluginAttributeVerify(t *testing.T) {
	b := startPlugin(t, "0.3.3", "strict", release, nil)
	if _, err := b.scenario.PushSigned(t.Context(), "native", b.scenario.Signer(), &signingtest.SignRequest{}); err != nil {
		t.Fatal(err)
	}
	if got := b.verdict(t, pod(b.scenario.Reference("native"))).Results[0]; got.Code != reason.Verified || b.verifications(t) != 0 {
		t.Errorf("code %s after %d processes: %s", got.Code, b.verifications(t), got.Reason)
	}
}

// TestUntrustedSignersCauseNoConnections holds that no address in a signature is connected to when its signer is unknown to
// the CA or not trusted by the policy.
func TestUntrustedSignersCauseNoConnections(t *testing.T) {
	stranger := func(s *scenariotest.Scenario) *signingtest.CA { return s.Foreign }
	colleague := func(s *scenariotest.Scenario) *signingtest.CA { return s.Trusted }
	for sentence, ca := range map[string]func(*scenariotest.Scenario) *signingtest.CA{"a stranger": stranger, "a colleague": colleague} {
		for level, want := range map[string]reason.Code{"audit": reason.Verified, "permissive": reason.SignatureUntrusted, "strict": reason.SignatureUntrusted} {
			for _, plugin := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s under %s, plugin %t", sentence, level, plugin), func(t *testing.T) {
					t.Parallel()
					address, connections := canary(t)
					b := startPlugin(t, "agree", level, release, nil)
					signer := issue(t, ca(b.scenario), signingtest.LeafOptions{CommonName: "Mallory", OCSPURL: "http://" + address + "/ocsp", CRLURL: "http://" + address + "/crl"})
					request := &signingtest.SignRequest{}
					if plugin {
						request.Plugin = signingtest.Venafi()
					}
					if _, err := b.scenario.PushSigned(t.Context(), "stranger", signer, request); err != nil {
						t.Fatal(err)
					}
					verdict := b.verdict(t, pod(b.scenario.Reference("stranger")))
					if got := verdict.Results[0]; got.Code != want || want == reason.Verified && !strings.Contains(verdict.Message, "nobody was asked") {
						t.Errorf("code %s, %q; want %s", got.Code, verdict.Message, want)
					}
					if n := b.verifications(t); n != 0 || connections.Load() != 0 {
						t.Errorf("%d processes, %d connections", n, connections.Load())
					}
				})
			}
		}
	}
}

// TestUnknownRevocationIsNotCached holds that the outcome is not cached, whether the plugin or the service looks revocation
// up.
func TestUnknownRevocationIsNotCached(t *testing.T) {
	for _, mode := range []string{"", "0.3.0", "0.3.3"} {
		t.Run(fmt.Sprintf("in mode %q", mode), func(t *testing.T) {
			t.Parallel()
			b := startPlugin(t, mode, "permissive", everyone, nil)
			responder, err := signingtest.NewRevocationServer(b.scenario.Trusted)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = responder.Close() })
			responder.SetDown(true)
			signer := issue(t, b.scenario.Trusted, signingtest.LeafOptions{CommonName: "Revocable", OCSPURL: responder.OCSPURL()})
			reference := b.pushVenafi(t, "revocable", signer, b.scenario.Platform.X5U(signer.Certificate))
			for range 2 {
				if got := b.verdict(t, pod(reference)).Results[0]; got.Code != reason.Verified || !strings.Contains(strings.Join(got.Warnings, "\n"), "revocation: ") {
					t.Fatalf("code %s, %q", got.Code, got.Warnings)
				}
			}
			if n := b.verifications(t); n != 2 || mode != "0.3.0" && responder.Requests() < 2 {
				t.Errorf("%d verifications, %d questions; want 2 of each", n, responder.Requests())
			}
		})
	}
}

// TestBrokenX5UAddressesAffectOnlyTheirImages holds that another signer of the same CA is not affected.
func TestBrokenX5UAddressesAffectOnlyTheirImages(t *testing.T) {
	b := startPlugin(t, "", "strict", everyone, nil)
	broken := b.scenario.Platform.Serve([]byte("no certificate"))
	for i := range 7 {
		reference := b.pushVenafi(t, fmt.Sprintf("broken-%d", i), b.scenario.Signer(), broken)
		if answer := b.post(t, "/checkimages", pod(reference)); answer.status != http.StatusBadGateway {
			t.Errorf("answer %d %s", answer.status, answer.text)
		}
	}
	if n := b.verifications(t); n != 5 {
		t.Errorf("%d processes for the broken address; want 5, and then none", n)
	}
	reference, _ := b.publish(t, "plugin-signed")
	if got := b.verdict(t, pod(reference)).Results[0]; got.Code != reason.Verified {
		t.Errorf("another signer: code %s, %s", got.Code, got.Reason)
	}
}
