package registry

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	notation "github.com/notaryproject/notation-go/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// shelf is a registry with one signed image, and a client of it.
type shelf struct {
	registry *registrytest.Registry
	client   *Client
	scenario *scenariotest.Scenario
}

// stocked brings up a shelf. What it holds of files and goroutines is gone when the test has ended.
func stocked(t *testing.T, options registrytest.Options, change func(*Options)) *shelf {
	t.Helper()
	leftBehind(t)
	s := &shelf{registry: registrytest.New(options)}
	t.Cleanup(s.registry.Close)
	var err error
	if s.scenario, err = scenariotest.New(s.registry.Host(), s.registry.Client(), !options.TLS); err != nil {
		t.Fatal(err)
	}
	s.push(t, "app")
	s.registry.Reset()
	of := Options{MaxReferrers: 10, InsecureHosts: []string{s.registry.Host()}, AllowLoopback: true}
	if options.TLS {
		of.InsecureHosts, of.CAFile = nil, filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(of.CAFile, s.registry.CAPEM(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(&of)
	}
	if s.client, err = New(of); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	return s
}

func (s *shelf) push(t *testing.T, name string) ocispec.Descriptor {
	t.Helper()
	image, err := s.scenario.PushSigned(t.Context(), name, s.scenario.Signer(), &signingtest.SignRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// leftBehind looks for goroutines and open files that a test leaves, when all else has been cleaned up.
func leftBehind(t *testing.T) {
	t.Helper()
	current, files := goleak.IgnoreCurrent(), descriptors()
	t.Cleanup(func() {
		goleak.VerifyNone(t, current)
		if now := descriptors(); now > files { // a connection is closed by the last goroutine that has to do with it
			t.Errorf("%d files are open, %d were before", now, files)
		}
	})
}

// descriptors counts the open files of this process; -1 where that cannot be seen.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries)
}

// read reads what a verification reads of acme/name:v1: the descriptor, the signatures, their envelopes.
func (s *shelf) read(ctx context.Context, name string) error {
	repository := s.client.Repository(image.Reference{Registry: s.registry.Host(), Repository: "acme/" + name})
	resolved, err := repository.Resolve(ctx, image.Reference{Tag: "v1"})
	if err != nil {
		return err
	}
	signatures, limited, err := repository.Referrers(ctx, resolved.Digest, notation.ArtifactTypeNotation)
	if err != nil {
		return err
	}
	if limited {
		return &Error{Code: reason.TooManyReferrers}
	}
	if len(signatures) == 0 {
		return errors.New("there is no signature")
	}
	for _, signature := range signatures {
		manifest, _, err := repository.Manifest(ctx, signature.Digest)
		if err != nil {
			return err
		}
		if _, err := repository.Blob(ctx, manifest.Layers[0], 1<<20); err != nil {
			return err
		}
	}
	return nil
}

func zipped(text []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(text) // into memory
	_ = w.Close()
	return b.Bytes()
}

// faultCase is what a registry does, and what comes of it.
type faultCase struct {
	fault registrytest.Fault
	want  reason.Code // "" where all goes well in the end
	says  string
	asked int // requests; 0 for any number
}

// patience is long where the deadline should not matter.
func (c faultCase) patience() time.Duration {
	if c.want == reason.Timeout {
		return 500 * time.Millisecond
	}
	return time.Minute
}

func (c faultCase) check(t *testing.T, err error) {
	t.Helper()
	var failure *Error
	switch {
	case c.want == "" && err != nil:
		t.Errorf("%v", err)
	case c.want != "" && (!errors.As(err, &failure) || failure.Code != c.want || !strings.Contains(failure.Text, c.says)):
		t.Errorf("%v (%+v); want %s and %q", err, failure, c.want, c.says)
	}
}

// faults are made anew for each registry, since some count.
func faults() map[string]faultCase {
	const index = `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[`
	header := func(key, value string) http.Header { return http.Header{key: {value}} }
	on := func(part string, fault registrytest.Fault) registrytest.Fault {
		return registrytest.Only(registrytest.PathContains(part), fault)
	}
	return map[string]faultCase{
		"none":                                     {nil, "", "", 4},
		"it fails twice":                           {registrytest.FailTimes(2, 503, nil), "", "", 6},
		"it fails for ever":                        {registrytest.FailTimes(-1, 500, nil), reason.RegistryUnavailable, "500", 0},
		"it wants to be left alone for a moment":   {registrytest.FailTimes(1, 429, header("Retry-After", "0")), "", "", 5},
		"it wants to be left alone for too long":   {registrytest.FailTimes(1, 429, header("Retry-After", "3600")), reason.RegistryUnavailable, "429", 1},
		"it wants so until a date":                 {registrytest.FailTimes(1, 503, header("Retry-After", "Fri, 31 Dec 2999 23:59:59 GMT")), reason.RegistryUnavailable, "503", 1},
		"it hangs":                                 {registrytest.Delay(time.Hour), reason.Timeout, "looking it up", 1},
		"its list hangs":                           {on("/referrers/", registrytest.Delay(time.Hour)), reason.Timeout, "listing", 2},
		"its envelope hangs half way":              {on("/blobs/", registrytest.Stall), reason.Timeout, "fetching", 4},
		"its list hangs half way":                  {on("/referrers/", registrytest.Stall), reason.Timeout, "listing", 2},
		"its envelope comes byte by byte":          {on("/blobs/", registrytest.Trickle(20*time.Millisecond)), reason.Timeout, "fetching", 4},
		"it hangs up":                              {registrytest.Down, reason.RegistryUnavailable, "looking it up", 0},
		"it hangs up in the middle of an envelope": {on("/blobs/", registrytest.Truncate), reason.RegistryUnavailable, "fetching", 4},
		"it hangs up in the middle of a list":      {on("/referrers/", registrytest.Truncate), reason.RegistryUnavailable, "listing", 2},
		"its envelope is another":                  {on("/blobs/", registrytest.SwapBody([]byte("other"), nil)), reason.RegistryInvalid, "other content", 4},
		"its envelope has no length and is longer": {on("/blobs/", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			for range 100 {
				fmt.Fprint(w, strings.Repeat("long", 1<<10))
				_ = http.NewResponseController(w).Flush()
			}
		}), reason.RegistryInvalid, "cannot be used", 4},
		"its header never ends":                 {registrytest.AddHeader(header("X-Long", strings.Repeat("x", 2*maxHeader))), reason.RegistryUnavailable, "looking it up", 1},
		"its pages never end":                   {registrytest.EndlessReferrers, reason.RegistryInvalid, "bring nothing new", 13},
		"its page is the next one":              {registrytest.SelfLink, reason.RegistryInvalid, "in circles", 2},
		"its empty page is the next one":        {on("/referrers/", registrytest.Chain(registrytest.SelfLink, registrytest.SwapBody([]byte(index+"]}"), nil))), reason.RegistryInvalid, "in circles", 2},
		"its next page is at another host":      {on("/referrers/", registrytest.AddHeader(header("Link", `<http://registry.invalid/next>; rel="next"`))), reason.RegistryInvalid, "another host", 2},
		"its list is a bomb":                    {on("/referrers/", registrytest.SwapBody(zipped([]byte(index+strings.Repeat("{},", 1<<20)+"{}]}")), header("Content-Encoding", "gzip"))), reason.TooManyReferrers, "", 2},
		"its list is a million of nothing":      {on("/referrers/", registrytest.SwapBody([]byte(index+strings.Repeat("{},", 1<<20)+"{}]}"), nil)), reason.TooManyReferrers, "", 2},
		"its list is too long":                  {on("/referrers/", registrytest.SwapBody([]byte(index+strings.Repeat(" ", 5<<20)+"]}"), nil)), reason.TooManyReferrers, "", 2},
		"its list is no list":                   {on("/referrers/", registrytest.SwapBody([]byte(`[]`), nil)), reason.RegistryInvalid, "cannot be read", 2},
		"it leads to a cloud's metadata":        {on("/blobs/", registrytest.RedirectTo("http://169.254.169.254/latest/meta-data")), reason.RegistryUnavailable, "169.254.169.254", 4},
		"it leads to the same, written so":      {on("/blobs/", registrytest.RedirectTo("http://[::ffff:169.254.169.254]/latest/meta-data")), reason.RegistryUnavailable, "169.254.169.254", 4},
		"it leads in circles":                   {on("/blobs/", registrytest.RedirectTo("/v2/acme/blobs/again")), reason.RegistryUnavailable, "more than 10 times", 0},
		"it leads to where there is no program": {on("/blobs/", registrytest.RedirectTo("file:///etc/passwd")), reason.RegistryUnavailable, "unsupported protocol scheme", 4},
	}
}

// TestReadsReportFaultsByTheDeadline injects faults of a registry: each must give the right code by the deadline, and
// leave nothing behind.
func TestReadsReportFaultsByTheDeadline(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for sentence, test := range faults() {
			t.Run(fmt.Sprintf("TLS %t: %s", secure, sentence), func(t *testing.T) {
				s := stocked(t, registrytest.Options{TLS: secure}, nil)
				s.registry.SetFault(test.fault)
				ctx, cancel := context.WithTimeout(t.Context(), test.patience())
				defer cancel()
				test.check(t, s.read(ctx, "app"))
				if n := len(s.registry.Requests()); test.asked > 0 && n != test.asked {
					t.Errorf("%d requests; want %d: %v", n, test.asked, s.registry.Requests())
				}
				if now := s.client.Stats(); now.Reading != 0 || now.Waiting != 0 {
					t.Errorf("%+v after all has ended", now)
				}
			})
		}
	}
}

func TestReferrersBoundLongLists(t *testing.T) {
	const index = `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[`
	million := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		fmt.Fprint(w, index, strings.Repeat("{},", 1<<20), "{}]}")
	}
	tests := map[string]struct {
		repository string
		fault      registrytest.Fault
	}{
		"a repository has blobs in its name": {"blobs/app", registrytest.Only(registrytest.PathContains("/referrers/"), million)},
		"the next page is where a blob is": {"app", registrytest.Chain(
			registrytest.Only(registrytest.PathContains("/referrers/"), registrytest.AddHeader(http.Header{"Link": {`</v2/acme/app/blobs/next>; rel="next"`}})),
			registrytest.Only(registrytest.PathContains("/blobs/"), million),
		)},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			s := stocked(t, registrytest.Options{}, nil)
			if test.repository != "app" {
				s.push(t, test.repository)
			}
			s.registry.SetFault(test.fault)
			faultCase{want: reason.TooManyReferrers}.check(t, s.read(t.Context(), test.repository))
		})
	}
}

func TestReadsReportFaultsOfTLS(t *testing.T) {
	tests := map[string]struct {
		faultCase
		listen func(t *testing.T) (host string, ca []byte)
	}{
		"a certificate of another name": {faultCase{want: reason.RegistryUnavailable, says: "not localhost"}, func(t *testing.T) (string, []byte) {
			server := httptest.NewTLSServer(http.NotFoundHandler())
			t.Cleanup(server.Close)
			_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
			return "localhost:" + port, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		}},
		"an old version": {faultCase{want: reason.RegistryUnavailable, says: "protocol version"}, func(t *testing.T) (string, []byte) {
			server := httptest.NewUnstartedServer(http.NotFoundHandler())
			server.TLS = &tls.Config{MaxVersion: tls.VersionTLS11}
			server.StartTLS()
			t.Cleanup(server.Close)
			return server.Listener.Addr().String(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		}},
		"one that never shakes hands": {faultCase{want: reason.Timeout, says: "looking it up"}, func(t *testing.T) (string, []byte) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = listener.Close() })
			return listener.Addr().String(), nil
		}},
		"nobody at all": {faultCase{want: reason.RegistryUnavailable, says: "refused"}, func(t *testing.T) (string, []byte) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			_ = listener.Close()
			return listener.Addr().String(), nil
		}},
		"a cloud's metadata": {faultCase{want: reason.RegistryUnavailable, says: "link-local"}, func(*testing.T) (string, []byte) {
			return "169.254.169.254", nil
		}},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			leftBehind(t)
			host, ca := test.listen(t)
			options := Options{AllowLoopback: true}
			if ca != nil {
				options.CAFile = filepath.Join(t.TempDir(), "ca.pem")
				if err := os.WriteFile(options.CAFile, ca, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			client, err := New(options)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(client.Close)
			ctx, cancel := context.WithTimeout(t.Context(), test.patience())
			defer cancel()
			test.check(t, resolve(ctx, client.Repository(image.Reference{Registry: host, Repository: "acme/app"})))
		})
	}
}

// TestReadsUseHTTP2 also where the registry closes each connection.
func TestReadsUseHTTP2(t *testing.T) {
	for sentence, fault := range map[string]registrytest.Fault{
		"in peace":                        registrytest.Chain(),
		"with a GOAWAY after each answer": registrytest.AddHeader(http.Header{"Connection": {"close"}}),
	} {
		t.Run(sentence, func(t *testing.T) {
			s := stocked(t, registrytest.Options{TLS: true}, nil)
			var other atomic.Int32
			s.registry.SetFault(registrytest.Chain(fault, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.ProtoMajor != 2 {
					other.Add(1)
				}
				next.ServeHTTP(w, r)
			}))
			for range 20 {
				if err := s.read(t.Context(), "app"); err != nil {
					t.Fatal(err)
				}
			}
			if n := len(s.registry.Requests()); n != 80 || other.Load() != 0 {
				t.Errorf("%d requests, %d of them not by HTTP/2; want 80 and 0", n, other.Load())
			}
		})
	}
}
