package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// worstArtifacts are inputs whose cost comes from artifacts in the registry.
func (fx *fixture) worstArtifacts(ctx context.Context) ([]worst, error) {
	var inputs []worst
	for _, input := range []func(context.Context) (worst, error){fx.hugeKey, fx.longManifests, fx.manyValues, fx.manyDemands} {
		made, err := input(ctx)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, made)
	}
	return inputs, nil
}

// hugeKey is an image with one signature, whose signing certificate has an RSA key of 500,000 bits.
func (fx *fixture) hugeKey(ctx context.Context) (worst, error) {
	const name, bits = "worst-key", 500_000
	modulus := make([]byte, bits/8)
	_, _ = rand.Read(modulus) // never returns an error
	modulus[0], modulus[len(modulus)-1] = modulus[0]|0x80, modulus[len(modulus)-1]|1
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 1<<31 - 1}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	signer, err := fx.scenario.Trusted.IssueTemplate(template, key)
	if err != nil {
		return worst{}, err
	}
	image, err := fx.scenario.PushSigned(ctx, name, nil, nil)
	if err != nil {
		return worst{}, err
	}
	good, err := fx.scenario.Signer().Sign(ctx, signingtest.SignRequest{Subject: image, Format: signingtest.JWS})
	if err != nil {
		return worst{}, err
	}
	envelope, err := resigned(good, signer.Chain, modulus)
	if err != nil {
		return worst{}, err
	}
	repository, err := signingtest.Repository(fx.registry.Host(), "acme/"+name, fx.registry.Client(), true)
	if err != nil {
		return worst{}, err
	}
	_, err = signingtest.PushSignature(ctx, repository, image, signingtest.JWS, envelope)
	return worst{"an RSA key of 500,000 bits", pod(fx.scenario.Reference(name))}, err
}

// resigned puts a certificate chain and a signature into a JWS envelope.
func resigned(envelope []byte, chain []*x509.Certificate, signature []byte) ([]byte, error) {
	var parts, protected map[string]any
	if err := json.Unmarshal(envelope, &parts); err != nil {
		return nil, err
	}
	text, err := base64.RawURLEncoding.DecodeString(parts["protected"].(string))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &protected); err != nil {
		return nil, err
	}
	protected["alg"] = "PS256"
	if text, err = json.Marshal(protected); err != nil {
		return nil, err
	}
	var certificates [][]byte
	for _, certificate := range chain {
		certificates = append(certificates, certificate.Raw)
	}
	parts["protected"], parts["signature"] = base64.RawURLEncoding.EncodeToString(text), base64.RawURLEncoding.EncodeToString(signature)
	parts["header"].(map[string]any)["x5c"] = certificates
	return json.Marshal(parts)
}

// longManifests is an image with 16 attestations, as many as are fetched in parallel, each with a manifest of 1 MB. A
// manifest may have 4 MB, but then this registry takes seconds to list them.
func (fx *fixture) longManifests(ctx context.Context) (worst, error) {
	const name = "worst-manifests"
	image, err := fx.scenario.PushSigned(ctx, name, fx.scenario.Signer(), &signingtest.SignRequest{})
	if err != nil {
		return worst{}, err
	}
	repository, err := signingtest.Repository(fx.registry.Host(), "acme/"+name, fx.registry.Client(), true)
	if err != nil {
		return worst{}, err
	}
	for i := range 16 {
		layer := fmt.Sprintf(`{"mediaType":"application/json","digest":"sha256:%064d","size":1},`, i)
		text := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[%s{}],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
			ocispec.MediaTypeImageManifest, sbomType, ocispec.MediaTypeEmptyJSON, ocispec.DescriptorEmptyJSON.Digest, strings.Repeat(layer, 8_000), image.MediaType, image.Digest, image.Size)
		manifest := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(text), Size: int64(len(text))}
		if err := repository.Manifests().Push(ctx, manifest, bytes.NewReader(text)); err != nil {
			return worst{}, err
		}
	}
	return worst{"16 attestations with manifests of 1 MB", demanding(fx.scenario.Reference(name), "{{ licence }}", "MIT")}, nil
}

// manyValues is an image with an attestation of 32 MiB that consists of small values.
func (fx *fixture) manyValues(ctx context.Context) (worst, error) {
	const name = "worst-values"
	image, err := fx.scenario.PushSigned(ctx, name, fx.scenario.Signer(), &signingtest.SignRequest{})
	if err != nil {
		return worst{}, err
	}
	payload := `{"list":[` + strings.Repeat(`1,`, 16<<20-100) + `1]}`
	_, err = fx.scenario.Attest(ctx, name, image, sbomType, []byte(payload), fx.scenario.Signer())
	return worst{"an attestation of 32 MiB of numbers", demanding(fx.scenario.Reference(name), "{{ length(list[?@ > `1`]) }}", "0")}, err
}

// manyDemands is a request for 1000 images that must all meet a condition of 3 MB.
func (fx *fixture) manyDemands(ctx context.Context) (worst, error) {
	const name = "worst-demands"
	image, err := fx.scenario.PushSigned(ctx, name, fx.scenario.Signer(), &signingtest.SignRequest{})
	if err != nil {
		return worst{}, err
	}
	if _, err = fx.scenario.Attest(ctx, name, image, sbomType, []byte(`{"licence":"MIT"}`), fx.scenario.Signer()); err != nil {
		return worst{}, err
	}
	var containers strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&containers, `,{"image":"%s/acme/%s:t%d@%s"}`, fx.registry.Host(), name, i, image.Digest)
	}
	return worst{"1000 images, and a condition of 3 MB", fmt.Sprintf(`{"object":{"kind":"Pod","spec":{"containers":[%s]}},"attestations":%s}`,
		containers.String()[1:], conditions("{{ licence }}", strings.Repeat("x", 3<<20)))}, nil
}

// demanding is a request for an image whose attestation must meet a condition.
func demanding(image, key, value string) string {
	return fmt.Sprintf(`{"object":{"kind":"Pod","spec":{"containers":[{"name":"c0","image":%q}]}},"attestations":%s}`, image, conditions(key, value))
}

func conditions(key, value string) string {
	return fmt.Sprintf(`[{"imageReference":"*","type":[{"name":%q,"conditions":{"all":[{"key":%q,"operator":"Equals","value":%q}]}}]}]`, sbomType, key, value)
}
