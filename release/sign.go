package release

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/notaryproject/notation-core-go/signature/jws"
	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/signer"
	"sigs.k8s.io/yaml"
)

// mediaJWS is the format of the signatures.
const mediaJWS = jws.MediaTypeEnvelope

// TrustPolicyName is the name of the trust policy that is written beside a release.
const TrustPolicyName = "kyverno-notation-venafi-release"

// Key is what a release is signed with: a private key (PKCS #8, PEM) and the chain of its certificate, from the signer's to the root
// (PEM).
type Key struct {
	PrivatePEM, ChainPEM []byte
}

// lifetime is for how long the certificate of a throw-away key is valid.
const lifetime = 365 * 24 * time.Hour

// ThrowAway makes a key that nobody keeps, with a certificate that it signed itself: who trusts the release has that certificate from
// whoever made it.
// https://github.com/notaryproject/specifications/blob/v1.1.0/specs/signature-specification.md#certificate-requirements
func ThrowAway(now time.Time) (Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Key{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return Key{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "throw-away key", Organization: []string{"kyverno-notation-venafi"}, Province: []string{"CA"}, Country: []string{"US"}},
		NotBefore:    now.Add(-time.Minute), NotAfter: now.Add(lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return Key{}, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return Key{}, err
	}
	return Key{
		PrivatePEM: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}),
		ChainPEM:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
	}, nil
}

// open parses the key and holds it against its certificate.
func (k Key) open() (notation.Signer, []*x509.Certificate, error) {
	pair, err := tls.X509KeyPair(k.ChainPEM, k.PrivatePEM)
	if err != nil {
		return nil, nil, fmt.Errorf("the signing key: %w", err) // which never quotes the key
	}
	var chain []*x509.Certificate
	for _, der := range pair.Certificate {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, fmt.Errorf("the signing certificate: %w", err)
		}
		chain = append(chain, certificate)
	}
	signing, err := signer.NewGenericSigner(pair.PrivateKey, chain)
	return signing, chain, err
}

// writeTrust writes what whoever verifies the release needs: the root certificate, a trust policy for the notation CLI, and the
// resources for check --trustDir or a cluster.
func writeTrust(dir string, chain []*x509.Certificate, repositories []string) error {
	root := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[len(chain)-1].Raw}))
	identity, err := trustedIdentity(chain[0])
	if err != nil {
		return err
	}
	statement := map[string]any{
		"name": "release", "registryScopes": repositories, "signatureVerification": map[string]any{"level": "strict"},
		"trustStores": []string{"ca:" + TrustPolicyName}, "trustedIdentities": []string{identity},
	}
	cli, err := json.MarshalIndent(map[string]any{"version": "1.0", "trustPolicies": []any{statement}}, "", "  ")
	if err != nil {
		return err
	}
	statement["registryScopes"] = []string{"*"} // so that a copy in a registry of one's own is verified as well
	policy := resource("TrustPolicy", map[string]any{"version": "1.0", "trustPolicyName": TrustPolicyName, "trustPolicies": []any{statement}})
	store := resource("TrustStore", map[string]any{"trustStoreName": TrustPolicyName, "type": "ca", "caBundle": root})
	resources, err := documents(policy, store)
	if err != nil {
		return err
	}
	return errors.Join(
		os.MkdirAll(filepath.Join(dir, "resources"), 0o755),
		os.WriteFile(filepath.Join(dir, "root.crt"), []byte(root), 0o644),
		os.WriteFile(filepath.Join(dir, "trustpolicy.json"), append(cli, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "resources", "trust.yaml"), resources, 0o644),
	)
}

// trustedIdentity names the signer by its subject.
// https://github.com/notaryproject/specifications/blob/v1.1.0/specs/trust-store-trust-policy.md#trusted-identities-constraints
func trustedIdentity(certificate *x509.Certificate) (string, error) {
	name := certificate.Subject
	if len(name.Country) == 0 || len(name.Province) == 0 || len(name.Organization) == 0 {
		return "", fmt.Errorf("the signing certificate's subject %q lacks C, ST or O, without which a trust policy cannot name it", name)
	}
	return "x509.subject: " + strings.ReplaceAll(name.String(), ",", ", "), nil
}

func resource(kind string, spec map[string]any) map[string]any {
	return map[string]any{"apiVersion": "notation.nirmata.io/v1alpha1", "kind": kind, "metadata": map[string]any{"name": TrustPolicyName}, "spec": spec}
}

func documents(objects ...map[string]any) ([]byte, error) {
	var text []byte
	for _, object := range objects {
		document, err := yaml.Marshal(object)
		if err != nil {
			return nil, err
		}
		text = append(append(text, "---\n"...), document...)
	}
	return text, nil
}
