//go:build e2e && e2e_release && linux

package documents

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
)

// The hosts that documents name, which are here on this machine.
const (
	registryHost = "ghcr.io"
	filesHost    = "github.com"
	downloads    = "/nirmata/kyverno-notation-venafi/releases/download/v0.1.0/"
)

// world answers for those hosts, to whoever uses it as a proxy and trusts its CA; connections to other hosts are passed on.
type world struct {
	ca       *x509.Certificate
	key      *ecdsa.PrivateKey
	registry http.Handler
	released string // folder with what a release on GitHub has
}

func newWorld(t *testing.T, released string) *world {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the world"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &world{ca: ca, key: key, released: released, registry: registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))}
}

// trust gives a machine this world.
func (w *world) trust(t *testing.T, m *machine) {
	t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(w.connect))
	t.Cleanup(proxy.Close)
	roots, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(m.home, "world.crt")
	if err := os.WriteFile(bundle, slices.Concat(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.ca.Raw})), 0o600); err != nil {
		t.Fatal(err)
	}
	m.environment = append(m.environment, "HTTPS_PROXY="+proxy.URL, "SSL_CERT_FILE="+bundle, "ALLOW_LOOPBACK=true")
}

func (w *world) connect(out http.ResponseWriter, request *http.Request) {
	if request.Method != http.MethodConnect {
		http.Error(out, "a proxy of TLS only", http.StatusMethodNotAllowed)
		return
	}
	client, buffered, err := out.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	host := request.URL.Hostname()
	if host != registryHost && host != filesHost {
		passOn(client, buffered.Reader, request.Host)
		return
	}
	certificate, err := w.certificate(host)
	if err != nil {
		return
	}
	secure := tls.Server(client, &tls.Config{Certificates: []tls.Certificate{certificate}})
	ended := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(w.serve), ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed || state == http.StateHijacked {
			close(ended)
		}
	}}
	_ = server.Serve(&once{connection: secure, ended: ended})
}

// passOn connects two sides until one ends.
func passOn(client net.Conn, from io.Reader, to string) {
	server, err := net.DialTimeout("tcp", to, 10*time.Second)
	if err != nil {
		return
	}
	defer server.Close()
	done := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(server, from); done <- struct{}{} }()
	go func() { _, _ = io.Copy(client, server); done <- struct{}{} }()
	<-done
}

// once is a listener of one connection, which waits until that has ended.
type once struct {
	connection net.Conn
	ended      chan struct{}
	given      bool
}

func (o *once) Accept() (net.Conn, error) {
	if o.given {
		<-o.ended
		return nil, io.EOF
	}
	o.given = true
	return o.connection, nil
}
func (o *once) Close() error   { return nil }
func (o *once) Addr() net.Addr { return o.connection.LocalAddr() }

func (w *world) certificate(host string) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, w.ca, w.key.Public(), w.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: w.key}, err
}

func (w *world) serve(out http.ResponseWriter, request *http.Request) {
	name, file := strings.CutPrefix(request.URL.Path, downloads)
	switch {
	case request.Host == registryHost:
		w.registry.ServeHTTP(out, request)
	case file:
		http.ServeFile(out, request, filepath.Join(w.released, filepath.Base(name)))
	default:
		http.NotFound(out, request)
	}
}

// signing makes a key for releases with its certificates, as an organization has one.
const signing = `
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out root.key
openssl req -x509 -new -key root.key -subj '/C=US/ST=WA/O=Acme/CN=Root' -addext keyUsage=critical,keyCertSign -days 30 -out root.crt
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out signing.key
openssl req -new -key signing.key -subj '/C=US/ST=WA/O=Acme/CN=Releases' -out signing.csr
printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n' > signing.ext
openssl x509 -req -in signing.csr -CA root.crt -CAkey root.key -CAcreateserial -days 20 -extfile signing.ext -out leaf.crt
cat leaf.crt root.crt > chain.crt`

const releases = "release/README.md"

// TestReleaseDocuments makes a release of this checkout for this platform, pushes it to where the documents say that releases are, and
// verifies and installs it from there.
func TestReleaseDocuments(t *testing.T) {
	m := newMachine(t)
	notation := bed.BuildForTest(t, m.programs, func(ctx context.Context) (string, error) {
		return m.programs.Program(ctx, "notation", "notation", "github.com/notaryproject/notation/cmd/notation")
	})
	if err := os.Symlink(notation, filepath.Join(filepath.Dir(m.home), "bin", "notation")); err != nil {
		t.Fatal(err)
	}
	m.output(t, m.checkout, "go build -o ~/knv ./function/cmd/kyverno-notation-venafi && ln -sf ~/knv ../bin/knv && git init -q && git add -A && git -c user.name=n -c user.email=n@example.com commit -qm all")
	released := t.TempDir()
	newWorld(t, released).trust(t, m)
	m.output(t, m.home, "set -e"+signing)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *machine, string)
	}{{"made and pushed", made}, {"verified", verified}, {"signed anew", signedAnew}, {"installed", installed}} {
		if !t.Run(part.name, func(t *testing.T) { part.run(t, m, released) }) {
			t.FailNow() // each goes on with what the one before it made
		}
	}
	t.Run("all that commands.txt says", func(t *testing.T) { m.all(t, "TestReleaseDocuments") })
}

func made(t *testing.T, m *machine, released string) {
	m.values = map[string]string{
		"REGISTRY": registryHost + "/nirmata",
		// For this platform alone, by the builder that the demands name.
		"--push": "--push --platforms linux/amd64 --scan=false --builder https://github.com/nirmata/kyverno-notation-venafi/.github/workflows/release.yaml@refs/tags/v0.1.0",
	}
	m.follow(t,
		step{document: releases, command: "go -C release run ./cmd/release -h", says: "-certificates"},
		step{document: releases, command: "make release VERSION=v0.1.0 ARGS='--key ~/signing.key --certificates ~/chain.crt --repository REGISTRY/kyverno-notation-venafi --chartRepository REGISTRY/charts/kyverno-notation-venafi --push'",
			says: "verified, with check"},
	)
	// What the release workflow publishes.
	m.output(t, filepath.Join(m.checkout, ".build", "release"), "cp trust/root.crt trust/trustpolicy.json trust/resources/trust.yaml ./*.* "+released+" && cp -r bin "+released+
		" && cp ../../release/*attestations.yaml ../../release/vulnerabilities.yaml "+released)
}

func verified(t *testing.T, m *machine, released string) {
	m.output(t, released, "mkdir trust && cp trust.yaml trust")
	for _, name := range []string{"kyverno-notation-venafi", "charts/kyverno-notation-venafi"} {
		layout := map[bool]string{true: "chart", false: "image"}[strings.HasPrefix(name, "charts/")]
		digest := m.output(t, filepath.Join(m.checkout, ".build", "release", layout), `grep -o '"digest":"sha256:[0-9a-f]*"[^}]*"org.opencontainers.image.ref.name"' index.json | grep -o 'sha256:[0-9a-f]*' | tail -1`)
		m.values["ghcr.io/nirmata/"+name+"@sha256:..."] = "ghcr.io/nirmata/" + name + "@" + digest
	}
	m.follow(t, inFolder(released,
		step{command: "knv check ghcr.io/nirmata/kyverno-notation-venafi:0.1.0 --trustDir trust --trustPolicy kyverno-notation-venafi-release --attestations attestations.yaml", says: "verified"},
		step{command: "knv check ghcr.io/nirmata/charts/kyverno-notation-venafi:0.2.0 --trustDir trust --trustPolicy kyverno-notation-venafi-release --attestations chart-attestations.yaml", says: "verified"},
		step{command: "notation cert add --type ca --store kyverno-notation-venafi-release root.crt"},
		step{command: "notation policy import trustpolicy.json"},
		step{command: "notation verify ghcr.io/nirmata/kyverno-notation-venafi@sha256:...", says: "Successfully verified"},
		step{command: "notation verify ghcr.io/nirmata/charts/kyverno-notation-venafi@sha256:...", says: "Successfully verified"},
		step{command: "sha256sum --ignore-missing -c checksums.txt", says: "install.yaml: OK"},
	)...)
}

func inFolder(dir string, steps ...step) []step {
	for n := range steps {
		steps[n].document, steps[n].dir = releases, dir
	}
	return steps
}

// signedAnew signs with the notation CLI what it verifies with trust that was exported.
func signedAnew(t *testing.T, m *machine, released string) {
	image := m.values["ghcr.io/nirmata/kyverno-notation-venafi@sha256:..."]
	m.output(t, m.home, "notation cert generate-test --default people")
	m.values["IMAGE@DIGEST"], m.values["PARENT"] = image, filepath.Join(m.home, "parent")
	m.output(t, released, "mkdir ~/parent && knv trust export -f trust.yaml --trustPolicy kyverno-notation-venafi-release ~/parent/notation")
	m.follow(t,
		step{document: "function/README.md", command: "notation sign IMAGE@DIGEST", says: "Successfully signed"},
		step{document: "function/README.md", command: "XDG_CONFIG_HOME=PARENT notation verify", more: " " + image, says: "Successfully verified"},
	)
}

func installed(t *testing.T, m *machine, released string) {
	m.output(t, released, "helm lint --strict ./*.tgz")
	for _, file := range []string{"install.yaml", "knative.yaml"} {
		t.Run(file, func(t *testing.T) {
			m.cluster(t)
			m.define(t, filepath.Join(m.module(t, "knative", serving), "config/core/300-resources/service.yaml"))
			m.way(t, "cat "+filepath.Join(released, file), step{document: releases, command: "kubectl apply -f https://" + filesHost + downloads + file})
		})
	}
	m.cluster(t)
	m.way(t, "helm get manifest "+release, step{document: releases, command: "helm install kyverno-notation-venafi oci://ghcr.io/nirmata/charts/kyverno-notation-venafi --version 0.2.0"})
	_, digest, _ := strings.Cut(m.values["ghcr.io/nirmata/kyverno-notation-venafi@sha256:..."], "@")
	images := m.output(t, released, inProduct+`get deployments -o jsonpath='{.items[*].spec.template.spec.containers[*].image}'`)
	if strings.Count(images, digest) != 2 {
		t.Errorf("the chart installs %q; want %s", images, digest)
	}
}
