package oracle

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // for the hashes by name
	_ "crypto/sha512"
	"crypto/x509"
	"math/big"
	"slices"
	"time"
)

const artifactTypeSignature = "application/vnd.cncf.notary.signature"

// signatures is what the signatures of an artifact come to under a statement.
type signatures struct {
	opinion         Opinion     // whether one satisfies it
	at              []time.Time // when those that may do so were made
	refusedByPlugin bool        // one may satisfy it if the plugin that it demands says yes, which it does not
}

func (w *Case) signed(repository *Repository, artifact descriptor, statement Statement) (s signatures) {
	for _, referrer := range repository.referrers(artifact.Digest, artifactTypeSignature) {
		w.add(&s, repository, referrer, artifact, statement, Yes)
	}
	if w.Lying {
		for _, referrer := range repository.elsewhere(artifact.Digest, artifactTypeSignature) {
			w.add(&s, repository, referrer, artifact, statement, Either)
		}
	}
	return s
}

// add counts one signature, whose opinion is at most the one given.
func (w *Case) add(s *signatures, repository *Repository, referrer referrer, artifact descriptor, statement Statement, most Opinion) {
	if len(referrer.fields.Layers) != 1 {
		return
	}
	layer := referrer.fields.Layers[0]
	blob, held := repository.Blobs[layer.Digest]
	if !held || int64(len(blob)) != layer.Size {
		return
	}
	read, ok := readEnvelope(layer.MediaType, blob)
	if !ok {
		return
	}
	itself := w.satisfies(&read, artifact, statement)
	opinion := min(itself, most)
	if read.demandsPlugin() {
		answer := w.plugin(&read, statement)
		opinion = min(opinion, answer)
		s.refusedByPlugin = s.refusedByPlugin || itself != No && answer != Yes
	}
	s.opinion = max(s.opinion, opinion)
	if opinion != No {
		s.at = append(s.at, read.signingTime)
	}
}

// satisfies holds one signature against a statement, but for what a plugin has to say.
func (w *Case) satisfies(e *envelope, artifact descriptor, statement Statement) Opinion {
	if !e.integral() || !e.targets(artifact) {
		return No
	}
	opinion := chainOpinion(e.chain)
	if _, whole := w.Trust.roots(statement, ""); !whole {
		opinion = min(opinion, Either) // a broken store may deny, also where the level only logs
	}
	check := func(name string, found Opinion) {
		if statement.enforces(name) {
			opinion = min(opinion, found)
		}
	}
	check(checkAuthenticity, w.authentic(e, statement))
	check(checkExpiry, when(e.expiry.IsZero() || w.Now.Before(e.expiry)))
	check(checkTime, when(e.timely(w.Now)))
	if !e.demandsPlugin() {
		opinion = min(opinion, when(e.understood()))
	}
	return opinion
}

// authentic: a certificate of the chain stands in a store of the scheme, and the leaf is one whom the statement names.
func (w *Case) authentic(e *envelope, statement Statement) Opinion {
	kind := map[string]string{schemeX509: "ca", schemeAuthority: "signingAuthority"}[e.scheme]
	roots, _ := w.Trust.roots(statement, kind)
	anchored := slices.ContainsFunc(e.chain, func(c *x509.Certificate) bool { return slices.ContainsFunc(roots, c.Equal) })
	return min(when(anchored), identityOpinion(e.chain[0], statement.Identities))
}

// identityOpinion holds the leaf's subject against the trusted identities: every attribute that one names must be the
// leaf's.
func identityOpinion(leaf *x509.Certificate, identities []string) Opinion {
	best := No
	for _, identity := range identities {
		if identity == "*" {
			return Yes
		}
		if name, ok := cutSubject(identity); ok {
			best = max(best, subjectOpinion(leaf, name))
		}
	}
	return best
}

func cutSubject(identity string) (string, bool) {
	const prefix = "x509.subject:"
	if len(identity) < len(prefix) || identity[:len(prefix)] != prefix {
		return "", false
	}
	return identity[len(prefix):], true
}

func subjectOpinion(leaf *x509.Certificate, name string) Opinion {
	wanted, ok := parseName(name)
	if !ok {
		return No
	}
	subject := leaf.Subject
	have := map[string][]string{
		"C": subject.Country, "ST": subject.Province, "L": subject.Locality, "O": subject.Organization,
		"OU": subject.OrganizationalUnit, "STREET": subject.StreetAddress, "CN": {subject.CommonName},
	}
	opinion := Yes
	for key, values := range have {
		if len(values) > 1 {
			opinion = Either // which of them counts is not said
		}
		if value, named := wanted[key]; named && !slices.Contains(values, value) {
			return No
		}
	}
	return opinion
}

// timely: without a timestamp the certificates must be valid now; a signing authority vouches for the time of signing.
func (e *envelope) timely(now time.Time) bool {
	if e.scheme == schemeAuthority {
		now = e.signingTime
	}
	return !slices.ContainsFunc(e.chain, func(c *x509.Certificate) bool { return now.Before(c.NotBefore) || now.After(c.NotAfter) })
}

// plugin is what the plugin says; without its true answer the oracle only knows who must not pass. Where authenticity is
// only logged, so may be the plugin's refusal.
func (w *Case) plugin(e *envelope, statement Statement) Opinion {
	if w.Plugin == nil {
		return Either
	}
	answer := w.Plugin(e.chain[0], e.extended)
	if answer == No && !statement.enforces(checkAuthenticity) {
		return Either
	}
	return answer
}

// integral: the signature is the leaf's over payload and signed attributes, by an algorithm that belongs to its key.
func (e *envelope) integral() bool {
	if e.contentType != mediaTypePayload || e.signingTime.IsZero() || !slices.Contains(e.critical, attributeScheme) {
		return false
	}
	if e.scheme != schemeX509 && e.scheme != schemeAuthority {
		return false
	}
	switch key := e.chain[0].PublicKey.(type) {
	case *rsa.PublicKey:
		return e.algorithm == rsaAlgorithm(key.N.BitLen()) && e.rsaVerifies(key)
	case *ecdsa.PublicKey:
		return e.algorithm == ecdsaAlgorithm(key.Curve) && e.ecdsaVerifies(key)
	}
	return false
}

func rsaAlgorithm(bits int) string {
	return map[int]string{2048: "PS256", 3072: "PS384", 4096: "PS512"}[bits]
}

func ecdsaAlgorithm(curve elliptic.Curve) string {
	return map[elliptic.Curve]string{elliptic.P256(): "ES256", elliptic.P384(): "ES384", elliptic.P521(): "ES512"}[curve]
}

func (e *envelope) digest() ([]byte, crypto.Hash) {
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[e.algorithm[2:]]
	h := hash.New()
	h.Write(e.signed)
	return h.Sum(nil), hash
}

func (e *envelope) rsaVerifies(key *rsa.PublicKey) bool {
	digest, hash := e.digest()
	return rsa.VerifyPSS(key, hash, digest, e.signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
}

func (e *envelope) ecdsaVerifies(key *ecdsa.PublicKey) bool {
	half := (key.Params().BitSize + 7) / 8
	if len(e.signature) != 2*half {
		return false
	}
	digest, _ := e.digest()
	r, s := new(big.Int).SetBytes(e.signature[:half]), new(big.Int).SetBytes(e.signature[half:])
	return ecdsa.Verify(key, digest, r, s)
}

// chainOpinion demands a chain of code signing: each certificate signed by the next, the last by itself, the leaf no
// authority, the others authorities.
func chainOpinion(chain []*x509.Certificate) Opinion {
	last := len(chain) - 1
	for i, certificate := range chain {
		issuer := chain[min(i+1, last)]
		if certificate.CheckSignature(certificate.SignatureAlgorithm, certificate.RawTBSCertificate, certificate.Signature) != nil && i == last {
			return No
		}
		if issuer.CheckSignature(certificate.SignatureAlgorithm, certificate.RawTBSCertificate, certificate.Signature) != nil {
			return No
		}
		if i > 0 && (!certificate.IsCA || certificate.KeyUsage&x509.KeyUsageCertSign == 0 || certificate.MaxPathLenZero && i > 1) {
			return No
		}
	}
	leaf := chain[0]
	if leaf.IsCA || leaf.KeyUsage&x509.KeyUsageCertSign != 0 || leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return No
	}
	return usageOpinion(leaf)
}

// usageOpinion: the extended key usage of a signer is code signing, and none of those that other certificates have. What
// it means that a certificate is for everything, or for nothing that is named, is left open.
func usageOpinion(leaf *x509.Certificate) Opinion {
	for _, usage := range leaf.ExtKeyUsage {
		switch usage {
		case x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection, x509.ExtKeyUsageTimeStamping, x509.ExtKeyUsageOCSPSigning:
			return No
		}
	}
	if len(leaf.ExtKeyUsage) == 1 && leaf.ExtKeyUsage[0] == x509.ExtKeyUsageCodeSigning {
		return Yes
	}
	return Either
}
