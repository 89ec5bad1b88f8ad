package function_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/plugintest"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// TestCheckImagesInEveryStateOfTrust sends requests for an image in every state of trust, with both kinds of registry.
func TestCheckImagesInEveryStateOfTrust(t *testing.T) {
	for kind, options := range registries(t) {
		t.Run(kind, func(t *testing.T) {
			b := start(t, options, "", nil)
			for _, c := range scenariotest.Cases() {
				t.Run(c.Tells, func(t *testing.T) {
					reference, digest := b.publish(t, c.Name)
					answer := b.post(t, "/checkimages", c.Request(reference))
					if c.Want == reason.Verified {
						admitted(t, answer, strings.TrimSuffix(reference, ":v1")+"@"+digest)
					} else {
						denied(t, answer, reference, digest)
					}
					if got := b.verdict(t, c.Request(reference)).Results[0]; got.Code != c.Want || got.Digest != digest {
						t.Errorf("code %s, digest %s; want %s, %s\n%s", got.Code, got.Digest, c.Want, digest, got.Reason)
					}
				})
			}
		})
	}
}

func admitted(t *testing.T, answer reply, pinned string) {
	t.Helper()
	want := fmt.Sprintf(`{"verified":true,"message":"verified 1 of 1 images","results":[{"name":"app","path":"/spec/containers/0/image","image":%[1]q,"op":"replace","value":%[1]q}]}`, pinned)
	if answer.status != http.StatusOK || strings.TrimSpace(answer.text) != want {
		t.Errorf("answer %d %s\nwant 200 %s", answer.status, answer.text, want)
	}
}

func denied(t *testing.T, answer reply, reference, digest string) {
	t.Helper()
	start := fmt.Sprintf("failed to verify container app: failed to verify image %s: ", reference)
	if answer.status != http.StatusNotAcceptable || !strings.HasPrefix(answer.text, start) || strings.Contains(answer.text, "\n") {
		t.Errorf("answer %d %s\nwant 406 and one line that starts with %s", answer.status, answer.text, start)
	}
	if c := strings.TrimPrefix(answer.text, start); strings.HasPrefix(c, "no signature") && c != fmt.Sprintf("no signature is associated with %q, make sure the artifact was signed successfully", strings.TrimSuffix(reference, ":v1")+"@"+digest) {
		t.Errorf("the sentence of the contract is %q", c)
	}
}

// TestPluginFailuresGiveTheirCode runs a real process for each way in which a plugin fails.
func TestPluginFailuresGiveTheirCode(t *testing.T) {
	tests := map[string]struct {
		mode   string
		want   reason.Code
		status int
		says   string
	}{
		"it hangs":                                 {"verify-signature:hang", reason.PluginTimeout, 504, "did not answer verify-signature in time"},
		"its child hangs and holds the pipes":      {"verify-signature:hang-child", reason.PluginTimeout, 504, "did not answer verify-signature in time"},
		"it crashes":                               {"verify-signature:crash", reason.PluginFailed, 502, "exit status 2"},
		"it answers garbage":                       {"verify-signature:garbage", reason.PluginFailed, 502, "not the protocol's JSON"},
		"it answers 100 MiB":                       {"verify-signature:flood", reason.PluginFailed, 502, "wrote more than"},
		"it writes 100 MiB to stderr":              {"verify-signature:flood-stderr", reason.PluginFailed, 502, "wrote more than"},
		"it is older than the signature demands":   {"wrong-version", reason.PluginIncapable, 406, "version 0.1.0"},
		"its version is none":                      {"not-semver", reason.PluginIncapable, 406, "semver"},
		"it does not say that it verifies":         {"no-capability", reason.PluginIncapable, 406, "install venafi-csp 0.3.3"},
		"it verifies without saying so, as 0.3.3":  {"0.3.3", reason.Verified, 200, ""},
		"it looks up revocation too, as 0.3.0":     {"0.3.0", reason.Verified, 200, ""},
		"it does not accept the signature":         {"refuse", reason.PluginRefused, 406, "failed with reason"},
		"it hangs when asked what it is":           {"get-plugin-metadata:hang", reason.PluginTimeout, 504, "get-plugin-metadata in time"},
		"it answers garbage when asked what it is": {"get-plugin-metadata:garbage", reason.PluginFailed, 502, "not the protocol's JSON"},
		"it is slow, but answers":                  {"slow:50ms", reason.Verified, 200, ""},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			b := start(t, registrytest.Options{}, test.mode, func(s *function.Settings) {
				if test.want == reason.PluginTimeout {
					s.PluginTimeout = 2 * time.Second
				}
			})
			reference, _ := b.publish(t, "plugin-signed")
			began := time.Now()
			answer := b.post(t, "/checkimages", pod(reference))
			if answer.status != test.status || !strings.Contains(answer.text, test.says) {
				t.Errorf("answer %d %s\nwant %d and %q", answer.status, answer.text, test.status, test.says)
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("it took %s, longer than the request's deadline", took)
			}
			if got := b.verdict(t, pod(reference)).Results[0].Code; got != test.want {
				t.Errorf("code %s; want %s", got, test.want)
			}
		})
	}
}

// TestPluginSignaturesOfAnotherImageAreDenied holds that a signature of another image is denied even if the plugin accepts
// it.
func TestPluginSignaturesOfAnotherImageAreDenied(t *testing.T) {
	b := start(t, registrytest.Options{}, "", nil)
	image, err := b.scenario.PushSigned(t.Context(), "swapped", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := image
	other.Digest = digest.FromString("another image")
	attributes := signingtest.Venafi()
	attributes.X5U = b.scenario.Platform.X5U(b.scenario.Signer().Certificate)
	envelope, err := b.scenario.Signer().Sign(t.Context(), signingtest.SignRequest{Subject: other, Plugin: attributes})
	if err != nil {
		t.Fatal(err)
	}
	repository, err := signingtest.Repository(b.registry.Host(), "acme/swapped", b.registry.Client(), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signingtest.PushSignature(t.Context(), repository, image, signingtest.JWS, envelope); err != nil {
		t.Fatal(err)
	}
	if got := b.verdict(t, pod(b.scenario.Reference("swapped"))).Results[0]; got.Code != reason.SignatureMismatch {
		t.Errorf("code %s; want %s: %s", got.Code, reason.SignatureMismatch, got.Reason)
	}
}

// TestRegistryFailuresGiveTheirCode injects faults between the service and a real registry.
func TestRegistryFailuresGiveTheirCode(t *testing.T) {
	unavailable := http.Header{"Retry-After": {"0"}}
	tests := map[string]struct {
		fault  registrytest.Fault
		want   reason.Code
		status int
	}{
		"it is down":                      {registrytest.Down, reason.RegistryUnavailable, 502},
		"it answers 500 for ever":         {registrytest.FailTimes(-1, 500, nil), reason.RegistryUnavailable, 502},
		"it answers 429 twice, then well": {registrytest.FailTimes(2, 429, unavailable), reason.Verified, 200},
		"it answers 503 once, then well":  {registrytest.FailTimes(1, 503, nil), reason.Verified, 200},
		"it answers 429 for ever":         {registrytest.FailTimes(-1, 429, unavailable), reason.RegistryUnavailable, 502},
		"it does not answer in time":      {registrytest.Delay(time.Minute), reason.Timeout, 504},
		"it truncates what it sends":      {registrytest.Only(registrytest.PathContains("/blobs/"), registrytest.Truncate), reason.RegistryUnavailable, 502},
		"it lies about a tag's digest":    {registrytest.WrongDigest("/v2/acme/signed/manifests/v1"), reason.NoSignature, 406},
		"it lists referrers without end":  {registrytest.EndlessReferrers, reason.RegistryInvalid, 502},
		"it pages the referrers":          {registrytest.PageReferrers(1), reason.Verified, 200},
		"it refuses access":               {registrytest.FailTimes(-1, 403, nil), reason.RegistryUnauthorized, 502},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			b := start(t, registrytest.Options{}, "", func(s *function.Settings) { s.RequestTimeout = 4 * time.Second })
			reference, _ := b.publish(t, "signed")
			b.registry.SetFault(test.fault)
			answer := b.post(t, "/checkimages", pod(reference))
			if answer.status != test.status {
				t.Errorf("answer %d %s\nwant %d", answer.status, answer.text, test.status)
			}
			b.registry.SetFault(test.fault)
			if got := b.verdict(t, pod(reference)).Results[0]; got.Code != test.want && test.want != reason.Verified {
				t.Errorf("code %s; want %s: %s", got.Code, test.want, got.Reason)
			}
		})
	}
}

// TestRegistryCannotSwapContent serves another envelope under the digest of the right one.
func TestRegistryCannotSwapContent(t *testing.T) {
	b := start(t, registrytest.Options{}, "", cold)
	reference, digest := b.publish(t, "signed")
	b.registry.Reset()
	b.verdict(t, pod(reference))
	var blob string
	for _, request := range b.registry.Requests() {
		if _, found, ok := strings.Cut(request.Path, "/blobs/"); ok {
			blob = found
		}
	}
	if blob == "" {
		t.Fatal("no envelope was fetched")
	}
	b.registry.SetFault(registrytest.SwapBlob(blob, []byte(`{"payload":"e30"}`)))
	if got := b.verdict(t, pod(reference)).Results[0]; got.Verified || got.Code != reason.RegistryInvalid {
		t.Errorf("swapped envelope: %+v", got)
	}
	b.registry.SetFault(registrytest.WrongDigest("/v2/acme/signed/manifests/v1"))
	if got := b.verdict(t, pod(reference)).Results[0]; got.Verified || got.Digest == digest {
		t.Errorf("another digest for a tag: %+v", got)
	}
	pinned := strings.TrimSuffix(reference, ":v1") + "@" + digest
	b.registry.SetFault(registrytest.WrongDigest("/v2/acme/signed/manifests/" + digest)) // no request should ask for this manifest
	if got := b.verdict(t, pod(pinned)).Results[0]; !got.Verified || got.Digest != digest || got.Op != "" {
		t.Errorf("another digest for a digest: %+v", got)
	}
}

// TestColdAdmissionCountsItsLookups counts the registry requests and plugin processes for one cold image with one
// signature.
func TestColdAdmissionCountsItsLookups(t *testing.T) {
	b := start(t, registrytest.Options{}, "", nil)
	reference, _ := b.publish(t, "plugin-signed")
	b.registry.Reset()
	answer := b.post(t, "/checkimages", pod(reference))
	if answer.status != http.StatusOK {
		t.Fatalf("answer %d %s", answer.status, answer.text)
	}
	if got := b.registry.Requests(); len(got) != 4 {
		t.Errorf("%d registry requests, want 4: %v", len(got), got)
	}
	calls, err := plugintest.Calls(b.pluginDir, "venafi-csp")
	if err != nil {
		t.Fatal(err)
	}
	if len(calls) != 2 || !strings.HasPrefix(calls[0], "get-plugin-metadata") || !strings.HasPrefix(calls[1], "verify-signature") {
		t.Errorf("plugin processes %q; want one for the metadata at start-up and one to verify", calls)
	}
}

// TestDenialNamesEveryFailure denies a pod of several images, and expects a line for each failed image with all that
// failed.
func TestDenialNamesEveryFailure(t *testing.T) {
	b := start(t, registrytest.Options{}, "", nil)
	signed, _ := b.publish(t, "signed")
	unsigned, _ := b.publish(t, "unsigned")
	foreign, _ := b.publish(t, "foreign")
	answer := b.post(t, "/checkimages", pod(signed, unsigned, foreign, b.scenario.Reference("absent"), unsigned))
	lines := strings.Split(answer.text, "\n")
	if answer.status != http.StatusNotAcceptable || len(lines) != 3 || !strings.HasSuffix(lines[0], "(and 1 more image: c4)") {
		t.Fatalf("answer %d, %d lines; want 406 and 3, of which the first names c4 too:\n%s", answer.status, len(lines), answer.text)
	}
	for i, container := range []string{"c1", "c2", "c3"} {
		if !strings.HasPrefix(lines[i], "failed to verify container "+container+": ") {
			t.Errorf("line %d is %q; want it to speak of %s", i, lines[i], container)
		}
	}
}

// TestTagsAreResolvedOncePerRequest counts the lookups of a tag that several containers have.
func TestTagsAreResolvedOncePerRequest(t *testing.T) {
	b := start(t, registrytest.Options{}, "", nil)
	reference, _ := b.publish(t, "signed")
	b.registry.Reset()
	b.post(t, "/checkimages", pod(reference, reference, reference))
	heads := 0
	for _, request := range b.registry.Requests() {
		if request.Method == http.MethodHead {
			heads++
		}
	}
	if heads != 1 {
		t.Errorf("the tag was looked up %d times", heads)
	}
}

// TestSignatureAttemptsAreBounded verifies images with one trusted signature among many untrusted ones.
func TestSignatureAttemptsAreBounded(t *testing.T) {
	tests := map[string]struct {
		foreign, attempts int
		good              bool
		want              reason.Code
	}{
		"a good one beside two foreign ones is found":   {2, 3, true, reason.Verified},
		"three foreign ones, and two may be tried":      {3, 2, false, reason.TooManySignatures},
		"three foreign ones, and three may be tried":    {3, 3, false, reason.SignatureUntrusted},
		"a good one beside a foreign one, in any order": {1, 2, true, reason.Verified},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			b := start(t, registrytest.Options{}, "", func(s *function.Settings) { s.MaxSignatureAttempts = test.attempts })
			var request *signingtest.SignRequest
			if test.good {
				request = &signingtest.SignRequest{}
			}
			image, err := b.scenario.PushSigned(t.Context(), "many", b.scenario.Signer(), request)
			if err != nil {
				t.Fatal(err)
			}
			mallory, err := b.scenario.Foreign.Issue(signingtest.LeafOptions{CommonName: "Mallory"})
			if err != nil {
				t.Fatal(err)
			}
			for range test.foreign {
				if err := b.scenario.Sign(t.Context(), "many", image, mallory, signingtest.SignRequest{}); err != nil {
					t.Fatal(err)
				}
			}
			if got := b.verdict(t, pod(b.scenario.Reference("many"))).Results[0]; got.Code != test.want {
				t.Errorf("code %s; want %s: %s", got.Code, test.want, got.Reason)
			}
		})
	}
}
