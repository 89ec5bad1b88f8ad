package bed

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// pki names the files that the API server serves and signs with. They are made once per bed and not by the API server
// itself, so that clients still trust it after a restart.
type pki struct {
	ca, cert, key     string // serving certificate and its authority, PEM
	serviceAccountKey string // signs and verifies service account tokens
}

func newPKI(dir string) (pki, error) {
	p := pki{
		ca:                filepath.Join(dir, "ca.crt"),
		cert:              filepath.Join(dir, "apiserver.crt"),
		key:               filepath.Join(dir, "apiserver.key"),
		serviceAccountKey: filepath.Join(dir, "service-account.key"),
	}
	if err := p.write(); err != nil {
		return pki{}, fmt.Errorf("certificates of the API server: %w", err)
	}
	return p, nil
}

func (p pki) write() error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("authority's key: %w", err)
	}
	ca := certificate("bed-ca")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	if err := writeCertificate(p.ca, ca, ca, caKey, caKey); err != nil {
		return err
	}
	key, err := writeKey(p.key)
	if err != nil {
		return err
	}
	serving := certificate("kube-apiserver")
	serving.DNSNames = []string{"localhost", "kubernetes.default.svc"}
	serving.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	serving.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if err := writeCertificate(p.cert, serving, ca, key, caKey); err != nil {
		return err
	}
	_, err = writeKey(p.serviceAccountKey)
	return err
}

func certificate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

func writeCertificate(path string, cert, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, parentKey)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", cert.Subject.CommonName, err)
	}
	return writePEM(path, "CERTIFICATE", der)
}

func writeKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	return key, writePEM(path, "EC PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
