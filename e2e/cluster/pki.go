package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"time"
)

// identity is who a certificate speaks for. Kubernetes takes the name for the user and the group for the group.
type identity struct {
	file, name, group string
}

// identities are the clients of the API server; each gets a kubeconfig.
var identities = []identity{
	{"admin", "admin", "system:masters"},
	{"controller-manager", "system:kube-controller-manager", ""},
	{"scheduler", "system:kube-scheduler", ""},
	{"kubelet", "system:node:" + nodeName, "system:nodes"},
	{"kube-proxy", "system:kube-proxy", ""},
	{"kubelet-client", "kube-apiserver-kubelet-client", "system:masters"},
}

// writePKI makes one authority, a serving certificate of the API server and one for every identity. Files that an
// earlier call left whole are kept.
func (l layout) writePKI() error {
	done := l.path("pki", "whole")
	if _, err := os.Stat(done); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("certificates: %w", err)
	}
	if err := os.MkdirAll(l.path("pki"), 0o700); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	ca, err := l.newAuthority("ca")
	if err != nil {
		return err
	}
	if err := l.issueAll(ca); err != nil {
		return err
	}
	if err := l.issueRegistry(); err != nil {
		return err
	}
	return os.WriteFile(done, nil, 0o600)
}

func (l layout) issueAll(ca authority) error {
	serving := template(identity{name: "kube-apiserver"})
	serving.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	serving.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + domain}
	serving.IPAddresses = []net.IP{net.ParseIP(nodeAddress), net.IPv4(127, 0, 0, 1), net.ParseIP(apiService)}
	if _, _, err := l.issue(ca, "apiserver", serving); err != nil {
		return err
	}
	if _, err := l.writeKey("service-account"); err != nil {
		return err
	}
	for _, id := range identities {
		client := template(id)
		client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		cert, key, err := l.issue(ca, id.file, client)
		if err != nil {
			return err
		}
		if err := l.writeKubeconfig(id.file, ca.pem, cert, key); err != nil {
			return err
		}
	}
	return nil
}

// issueRegistry makes a private authority for the registry of the cluster, which nobody else trusts.
func (l layout) issueRegistry() error {
	ca, err := l.newAuthority("registry-ca")
	if err != nil {
		return err
	}
	serving := template(identity{name: "registry"})
	serving.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	serving.DNSNames = []string{RegistryHost}
	_, _, err = l.issue(ca, "registry", serving)
	return err
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func (l layout) newAuthority(name string) (authority, error) {
	cert := template(identity{name: name})
	cert.IsCA, cert.BasicConstraintsValid, cert.KeyUsage = true, true, x509.KeyUsageCertSign
	key, err := l.writeKey(name)
	if err != nil {
		return authority{}, err
	}
	ca := authority{cert: cert, key: key}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		return authority{}, fmt.Errorf("certificate ca: %w", err)
	}
	ca.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return ca, os.WriteFile(l.path("pki", name+".crt"), ca.pem, 0o600)
}

// issue writes NAME.crt and NAME.key and returns both as PEM.
func (l layout) issue(ca authority, name string, cert *x509.Certificate) (certPEM, keyPEM []byte, err error) {
	key, err := l.writeKey(name)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate %s: %w", name, err)
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(l.path("pki", name+".crt"), certPEM, 0o600); err != nil {
		return nil, nil, fmt.Errorf("certificate %s: %w", name, err)
	}
	keyPEM, err = os.ReadFile(l.path("pki", name+".key"))
	return certPEM, keyPEM, err
}

func (l layout) writeKey(name string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	data := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	return key, os.WriteFile(l.path("pki", name+".key"), data, 0o600)
}

func template(id identity) *x509.Certificate {
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: id.name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	if id.group != "" {
		cert.Subject.Organization = []string{id.group}
	}
	return cert
}

// writeKubeconfig writes JSON, which is YAML; []byte becomes base64, as the fields want it.
func (l layout) writeKubeconfig(who string, ca, cert, key []byte) error {
	type object = map[string]any
	data, err := json.Marshal(object{
		"apiVersion": "v1", "kind": "Config", "current-context": "cluster",
		"clusters": []object{{"name": "cluster", "cluster": object{"server": serverURL, "certificate-authority-data": ca}}},
		"users":    []object{{"name": who, "user": object{"client-certificate-data": cert, "client-key-data": key}}},
		"contexts": []object{{"name": "cluster", "context": object{"cluster": "cluster", "user": who}}},
	})
	if err != nil {
		return fmt.Errorf("kubeconfig %s: %w", who, err)
	}
	return os.WriteFile(l.kubeconfig(who), data, 0o600)
}
