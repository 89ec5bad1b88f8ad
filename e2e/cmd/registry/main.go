// Command registry is the registry of package cluster: it speaks TLS with a certificate that it is given, keeps its
// images in memory, and fills itself with the images of package scenario and with a few that run. It is their signing
// platform as well. Whom to trust for them it says on a second port, as manifests.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

const headerTime = 10 * time.Second // to read the head of a request

func main() {
	host := flag.String("host", "", "what images call this registry")
	certificates := flag.String("tls", "", "folder with tls.crt, tls.key and ca.crt")
	program := flag.String("program", "", "static program that the images that run hold, as /pause")
	flag.Parse()
	if err := run(context.Background(), *host, *certificates, *program); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, host, certificates, program string) error {
	failed := make(chan error, 2)
	platform, handler := signingtest.PlatformAt(host), http.NewServeMux()
	handler.Handle(signingtest.PlatformPath, platform)
	handler.Handle("/", registrytest.InMemory())
	images := &http.Server{Addr: ":8443", Handler: handler, ReadHeaderTimeout: headerTime, Protocols: &http.Protocols{}}
	// The registry reads one upload at a time. In HTTP/2 those that wait would fill the window of the connection that the one has to use.
	images.Protocols.SetHTTP1(true)
	listener, err := net.Listen("tcp", images.Addr)
	if err != nil {
		return err
	}
	go func() {
		failed <- images.ServeTLS(listener, filepath.Join(certificates, "tls.crt"), filepath.Join(certificates, "tls.key"))
	}()
	client, err := clientOf(listener.Addr().(*net.TCPAddr).Port, filepath.Join(certificates, "ca.crt"))
	if err != nil {
		return err
	}
	s, err := scenariotest.New(host, client, false)
	if err != nil {
		return err
	}
	s.Platform = platform
	if err := s.PublishAll(ctx); err != nil {
		return err
	}
	if err := publishRunning(ctx, s, client, program); err != nil {
		return err
	}
	for name, licence := range map[string]string{"attested": "Apache-2.0", "attested-gpl": "GPL-3.0"} {
		if err := s.PushWithSampleAttestations(ctx, name, licence); err != nil {
			return err
		}
	}
	trust := &http.Server{Addr: ":8080", Handler: trustHandler(s), ReadHeaderTimeout: headerTime}
	go func() { failed <- trust.ListenAndServe() }()
	return <-failed
}

// clientOf reaches this very process by whatever name.
func clientOf(port int, ca string) (*http.Client, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", ca)
	}
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", port))
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: roots}}}, nil
}

// publishRunning pushes images that a node can start: the scenario's have layers that are no archives.
func publishRunning(ctx context.Context, s *scenariotest.Scenario, client *http.Client, program string) error {
	layer, err := layerOf(program)
	if err != nil {
		return err
	}
	for name, request := range map[string]*signingtest.SignRequest{
		"run-signed":   {},
		"run-plugin":   {Plugin: signingtest.Venafi()},
		"run-unsigned": nil,
	} {
		repository, err := signingtest.Repository(s.Host, "acme/"+name, client, false)
		if err != nil {
			return err
		}
		image, err := signingtest.PushImage(ctx, repository, "v1", signingtest.Image{Layers: [][]byte{layer}})
		if err != nil {
			return err
		}
		if request == nil {
			continue
		}
		if err := s.Sign(ctx, name, image, s.Signer(), *request); err != nil {
			return err
		}
	}
	return nil
}

func layerOf(program string) ([]byte, error) {
	data, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	layer := bytes.Buffer{}
	archive := tar.NewWriter(&layer)
	if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "pause", Mode: 0o555, Size: int64(len(data))}); err != nil {
		return nil, err
	}
	if _, err := archive.Write(data); err != nil {
		return nil, err
	}
	return layer.Bytes(), archive.Close()
}

// trustHandler answers with the trust of two teams: team-a trusts the scenario's signer, team-b its stranger.
func trustHandler(s *scenariotest.Scenario) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, scenariotest.TrustStore("acme", s.Trusted.PEM())+
			"---\n"+scenariotest.TrustStore("mallory", s.Foreign.PEM())+
			"---\n"+scenariotest.TrustPolicy("tp-team-a", "strict", "ca:acme")+
			"---\n"+scenariotest.TrustPolicy("tp-team-b", "strict", "ca:mallory"))
	})
}
