package verify_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/signature"
	notation "github.com/notaryproject/notation-go/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/egress"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

func TestSignaturesAreValidUntilTheirFirstBound(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	clock := must(signingtest.NewCA(signingtest.Options{CommonName: "Clock Root"}))
	mint := func(notAfter time.Time) *signingtest.Signer {
		return must(b.scenario.Trusted.Issue(signingtest.LeafOptions{CommonName: "Stamped", NotBefore: today.AddDate(-3, 0, 0), NotAfter: notAfter}))
	}
	soon, past, expiry := today.Add(time.Hour).UTC(), today.AddDate(-1, 0, 0).UTC(), today.Add(30*time.Minute).UTC()
	tests := map[string]struct {
		notAfter        time.Time
		stamped, tsa    bool
		verifyTimestamp string
		expires         bool
		want            time.Time
	}{
		"the certificate's end":                                        {notAfter: soon, want: soon},
		"the signature's expiry, where that comes first":               {notAfter: soon, expires: true, want: expiry},
		"the certificate's end, for a timestamp that nobody looked at": {notAfter: soon, stamped: true, want: soon},
		"no end, for a timestamp that was verified":                    {notAfter: soon, stamped: true, tsa: true},
		"the certificate's end, before which no timestamp is needed":   {notAfter: soon, stamped: true, tsa: true, verifyTimestamp: "afterCertExpiry", want: soon},
		"no end, for a timestamp that was needed":                      {notAfter: past, stamped: true, tsa: true, verifyTimestamp: "afterCertExpiry"},
		"the expiry, beside a timestamp that was verified":             {notAfter: soon, stamped: true, tsa: true, expires: true, want: expiry},
	}
	number := 0
	for sentence, test := range tests {
		number++
		name := fmt.Sprintf("until-%d", number)
		t.Run(sentence, func(t *testing.T) {
			request := signingtest.SignRequest{SigningScheme: signature.SigningSchemeX509, SigningTime: today.AddDate(-2, 0, 0)}
			if test.expires {
				request.Expiry = expiry.Sub(request.SigningTime)
			}
			if test.stamped {
				request.Timestamper = must(signingtest.NewTSA(clock, func() time.Time { return request.SigningTime }))
				request.TimestampRoots = x509.NewCertPool()
				request.TimestampRoots.AddCert(clock.Certificate)
			}
			on := *b
			on.T = t
			x := &target{bed: &on, name: name, image: must(b.scenario.PushSigned(t.Context(), name, mint(test.notAfter), &request))}
			plan := x.plan("strict", nil)
			plan.Tasks[0].Statement.VerifyTimestamp = test.verifyTimestamp
			if test.tsa {
				store := trust.StoreRef{Type: "tsa", Name: "clock"}
				plan.Tasks[0].Statement.TrustStores = []string{"ca:acme", store.String()}
				plan.Tasks[0].Stores[store] = trust.Store{Ref: store, Certificates: []*x509.Certificate{clock.Certificate}}
			}
			got := b.gatherer.Gather(t.Context(), plan.Tasks, time.Now())[0].Signature
			if !got.Verified || !got.ValidUntil.Equal(test.want) {
				t.Errorf("valid until %s; want %s: %+v", got.ValidUntil, test.want, got)
			}
		})
	}
}

func TestSignaturesWithUnknownCriticalAttributesAreDenied(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	for number, format := range []string{signingtest.JWS, signingtest.COSE} {
		name := fmt.Sprintf("critical-%d", number)
		request := signingtest.SignRequest{Format: format, Plugin: &signingtest.PluginAttributes{Other: map[string]string{"com.example.onlyOn": "Mondays"}}}
		x := &target{bed: b, name: name, image: must(b.scenario.PushSigned(t.Context(), name, b.scenario.Signer(), &request))}
		for _, level := range []string{"strict", "audit"} {
			if got := x.decide(b.gatherer, level, nil); got.Code != reason.SignatureInvalid || !strings.Contains(got.Reason, `"com.example.onlyOn"`) {
				t.Errorf("%s under %s: %s, %s", format, level, got.Code, got.Reason)
			}
		}
	}
}

func TestReasonsOfSignaturesAreBounded(t *testing.T) {
	long := strings.Repeat("\x7f", 100_000) // %q makes four bytes of each
	tests := map[string]struct {
		prepare func(x *target)
		list    func(d *ocispec.Descriptor) // changes how the first attestation is listed; nil leaves it
		want    reason.Code
		says    string
	}{
		"the media type of an envelope": {
			prepare: func(x *target) {
				unsignedImage(x)
				for range 5 {
					x.attach(attestation{artifactType: notation.ArtifactTypeNotation, mediaType: long, unsigned: true})
					long += "\x7f" // for another digest
				}
			},
			want: reason.SignatureInvalid, says: "and 2 more",
		},
		"the media type of a payload": {
			prepare: func(x *target) { x.attach(attestation{payload: good, mediaType: long}) },
			want:    reason.AttestationInvalid, says: "attach the document as application/json",
		},
		"the type of an attestation": {
			prepare: func(x *target) { x.push(ocispec.Manifest{ArtifactType: long, Subject: &x.image}) },
			list:    func(d *ocispec.Descriptor) { d.ArtifactType = sbomType },
			want:    reason.AttestationUntrusted, says: "is of type",
		},
		"the digest in a list": {
			prepare: func(x *target) { x.attach(attestation{payload: good}) },
			list:    func(d *ocispec.Descriptor) { d.Digest = digest.Digest(long) },
			want:    reason.RegistryInvalid, says: "cannot be used",
		},
	}
	b := newBed(t, registrytest.Options{}, 10)
	number := 0
	for sentence, test := range tests {
		number++
		name := fmt.Sprintf("long-%d", number)
		t.Run(sentence, func(t *testing.T) {
			on := *b
			on.T = t
			x := on.target(name)
			test.prepare(x)
			if test.list != nil {
				b.registry.SetFault(editAttestation(test.list)(x))
				defer b.registry.SetFault(nil)
			}
			got := x.decide(b.gatherer, "", demanding(verification.SelectAll, licence))
			if got.Code != test.want || !strings.Contains(got.Reason, test.says) || len(got.Reason) > 10_000 {
				t.Errorf("%s in %d bytes: %.2000s", got.Code, len(got.Reason), got.Reason)
			}
		})
	}
}

// push pushes an attestation's manifest as it is, unsigned.
func (x *target) push(manifest ocispec.Manifest) {
	x.Helper()
	manifest.SchemaVersion, manifest.MediaType, manifest.Config = 2, ocispec.MediaTypeImageManifest, ocispec.DescriptorEmptyJSON
	text := must(json.Marshal(manifest))
	pushed := ocispec.Descriptor{MediaType: manifest.MediaType, Digest: digest.FromBytes(text), Size: int64(len(text))}
	repository := must(signingtest.Repository(x.registry.Host(), "acme/"+x.name, x.registry.Client(), true))
	if err := repository.Push(x.Context(), pushed, bytes.NewReader(text)); err != nil {
		x.Fatal(err)
	}
	x.attached = append(x.attached, pushed)
}

// TestRevocationFollowsTheEgressRule holds that the rule applies to the addresses in certificates and to redirects.
func TestRevocationFollowsTheEgressRule(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	responder := must(signingtest.NewRevocationServer(b.scenario.Trusted))
	t.Cleanup(func() { _ = responder.Close() })
	redirects := httptest.NewServer(http.RedirectHandler("http://169.254.169.254/latest", http.StatusFound))
	t.Cleanup(redirects.Close)
	loopback := egress.Rule{AllowLoopback: true}
	tests := map[string]struct {
		options signingtest.LeafOptions
		rule    egress.Rule
		want    reason.Code
		says    string
	}{
		"a list on this machine":                {signingtest.LeafOptions{CRLURL: responder.CRLURL()}, egress.Rule{}, reason.RevocationUnknown, "no connection is made to 127.0.0.1"},
		"a responder on this machine":           {signingtest.LeafOptions{OCSPURL: responder.OCSPURL()}, egress.Rule{}, reason.RevocationUnknown, "no connection is made to 127.0.0.1"},
		"a list of a cloud's metadata":          {signingtest.LeafOptions{CRLURL: "http://[::ffff:169.254.169.254]/crl"}, loopback, reason.RevocationUnknown, "no connection is made to"},
		"a responder of a cloud's metadata":     {signingtest.LeafOptions{OCSPURL: "http://100.100.100.200/ocsp"}, loopback, reason.RevocationUnknown, "no connection is made to"},
		"a list that redirects to metadata":     {signingtest.LeafOptions{CRLURL: redirects.URL}, loopback, reason.RevocationUnknown, "no connection is made to 169.254.169.254"},
		"a responder that redirects there":      {signingtest.LeafOptions{OCSPURL: redirects.URL}, loopback, reason.RevocationUnknown, "no connection is made to 169.254.169.254"},
		"a list on this machine, where allowed": {signingtest.LeafOptions{CRLURL: responder.CRLURL()}, loopback, reason.Verified, ""},
	}
	number := 0
	for sentence, test := range tests {
		number++
		name := fmt.Sprintf("egress-%d", number)
		t.Run(sentence, func(t *testing.T) {
			on := *b
			on.T = t
			signer := must(b.scenario.Trusted.Issue(test.options))
			x := &target{bed: &on, name: name, image: must(b.scenario.PushSigned(t.Context(), name, signer, &signingtest.SignRequest{}))}
			k := on.newKeeper(10, func(o *verify.Options) { o.Egress = test.rule })
			if got := x.decide(k, "strict", nil); got.Code != test.want || !strings.Contains(got.Reason, test.says) {
				t.Errorf("%s: %s; want %s, %q", got.Code, got.Reason, test.want, test.says)
			}
		})
	}
}

func TestUntrustedSignersAreNotThePluginsFault(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	for name, test := range map[string]struct {
		signer *signingtest.Signer
		level  string
		want   reason.Code
	}{
		"stranger": {b.foreign, "strict", reason.SignatureUntrusted},
		"audited":  {b.foreign, "audit", reason.PluginMissing},
		"trusted":  {b.scenario.Signer(), "strict", reason.PluginMissing},
	} {
		x := &target{bed: b, name: name, image: must(b.scenario.PushSigned(t.Context(), name, test.signer, &signingtest.SignRequest{Plugin: signingtest.Venafi()}))}
		if got := x.decide(b.gatherer, test.level, nil); got.Code != test.want || !strings.Contains(got.Reason, `"venafi-csp"`) {
			t.Errorf("%s: %s: %s; want %s", name, got.Code, got.Reason, test.want)
		}
	}
}

func TestForgedRevocationListsAreNotCached(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	forger, right := must(signingtest.NewRevocationServer(b.scenario.Foreign)), must(signingtest.NewRevocationServer(b.scenario.Trusted))
	var source atomic.Pointer[string]
	source.Store(new(forger.CRLURL()))
	onTheWay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, *source.Load(), http.StatusFound)
	}))
	t.Cleanup(func() { onTheWay.Close(); _ = forger.Close(); _ = right.Close() })
	signer := must(b.scenario.Trusted.Issue(signingtest.LeafOptions{CRLURL: onTheWay.URL}))
	x := &target{bed: b, name: "forged", image: must(b.scenario.PushSigned(t.Context(), "forged", signer, &signingtest.SignRequest{}))}
	if got := x.decide(b.gatherer, "strict", nil); got.Code != reason.RevocationUnknown {
		t.Errorf("by a forged list: %s: %s", got.Code, got.Reason)
	}
	source.Store(new(right.CRLURL()))
	for i := range 2 {
		if got := x.decide(b.gatherer, "strict", nil); got.Code != reason.Verified {
			t.Errorf("by the right list: %s: %s", got.Code, got.Reason)
		}
		if n := right.Requests(); n != 1 {
			t.Errorf("it was fetched %d times after %d decisions; want once", n, i+1)
		}
	}
}

func TestUnspecificReferrersAreTriedLast(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	x := b.target("beside")
	for i := range 8 {
		x.attach(attestation{configType: ocispec.MediaTypeImageConfig, payload: fmt.Sprint(i), unsigned: true})
	}
	var got core.Result
	if n := b.requests(func() { got = x.decide(b.gatherer, "strict", nil) }); got.Code != reason.Verified || n != 4 {
		t.Errorf("%s after %d requests; want it after 4: %s", got.Code, n, got.Reason)
	}
	x = &target{bed: b, name: "nothing-else", image: must(b.scenario.PushSigned(t.Context(), "nothing-else", nil, nil))}
	x.attach(attestation{configType: ocispec.MediaTypeImageConfig, unsigned: true})
	if got := x.decide(b.gatherer, "strict", nil); got.Code != reason.NoSignature {
		t.Errorf("nothing but what is no signature: %s: %s", got.Code, got.Reason)
	}
}

// TestUnsignedContentIsDenied holds that whatever is pushed without a valid signature is a denial: what cannot be read is
// not the registry's fault.
func TestUnsignedContentIsDenied(t *testing.T) {
	b := newBed(t, registrytest.Options{}, 10)
	repository := must(signingtest.Repository(b.registry.Host(), "acme/odd", b.registry.Client(), true))
	layer := `{"mediaType":"a/b","digest":"` + digest.FromString("").String() + `","size":0}`
	for sentence, text := range map[string]string{
		"an image":                       `{"schemaVersion":2,"config":` + layer + `,"layers":[]}`,
		"an index and a manifest in one": `{"schemaVersion":2,"config":` + layer + `,"layers":[],"manifests":[]}`,
		"a field twice":                  `{"schemaVersion":2,"schemaVersion":2,"layers":[]}`,
		"of another type than it says":   `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","layers":[]}`,
		"too long":                       `{"schemaVersion":2,"layers":[],"annotations":{"a":"` + strings.Repeat("a", 5<<20) + `"}}`,
		"of too many parts":              `{"schemaVersion":2,"layers":[` + strings.Repeat(layer+",", 21_000) + layer + `]}`,
		"no JSON":                        `hello`,
	} {
		t.Run(sentence, func(t *testing.T) {
			pushed := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(text), Size: int64(len(text))}
			if err := repository.Push(t.Context(), pushed, strings.NewReader(text)); err != nil {
				t.Skip("the registry takes no such manifest:", err)
			}
			on := *b
			on.T = t
			x := &target{bed: &on, name: "odd", image: pushed}
			plan := x.plan("", nil)
			plan.Tasks[0].Ref = must(image.Parse(b.registry.Host() + "/acme/odd@" + pushed.Digest.String()))
			if got := core.Decide(plan, b.gatherer.Gather(t.Context(), plan.Tasks, time.Now()), time.Now()).Results[0]; got.Code != reason.NoSignature {
				t.Errorf("%s: %.300s", got.Code, got.Reason)
			}
		})
	}
}
