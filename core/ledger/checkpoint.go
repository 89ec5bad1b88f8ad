package ledger

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
)

// signerName is the name of every key in a signed note; keys differ in their IDs.
const signerName = "kyverno-notation-venafi/records"

// statement is what a checkpoint says.
type statement struct {
	replica, chain string
	size           uint64 // lines, from sequence 0 on
	hash           string // of the last of them
	start, time    time.Time
	closed         bool
}

func (s statement) text() (string, error) {
	hash, err := hex.DecodeString(s.hash)
	state := "open"
	if s.closed {
		state = "closed"
	}
	return fmt.Sprintf("%s/%s/%s\n%d\n%s\nstart %s\ntime %s\n%s\n", signerName, s.replica, s.chain, s.size, base64.StdEncoding.EncodeToString(hash),
		formatTime(s.start), formatTime(s.time), state), err
}

// sign gives the signed note.
func (s statement) sign(key *certificates.Pair) (string, error) {
	text, err := s.text()
	if err != nil {
		return "", err
	}
	signed, err := note.Sign(&note.Note{Text: text}, signer{key})
	if err != nil {
		return "", fmt.Errorf("checkpoint: %w", err)
	}
	return string(signed), nil
}

// parseStatement reads the text of a note, and refuses one that is not byte for byte as this package writes it.
func parseStatement(text string) (statement, error) {
	wrong := errors.New("the checkpoint does not say what one says")
	lines := strings.Split(text, "\n")
	if len(lines) != 7 {
		return statement{}, wrong
	}
	var s statement
	origin, named := strings.CutPrefix(lines[0], signerName+"/")
	s.replica, s.chain, _ = strings.Cut(origin, "/")
	size, sizeErr := strconv.ParseUint(lines[1], 10, 64)
	hash, hashErr := base64.StdEncoding.DecodeString(lines[2])
	s.size, s.hash = size, hex.EncodeToString(hash)
	var startErr, timeErr error
	s.start, startErr = parseTime(strings.TrimPrefix(lines[3], "start "))
	s.time, timeErr = parseTime(strings.TrimPrefix(lines[4], "time "))
	s.closed = lines[5] == "closed"
	if again, err := s.text(); !named || errors.Join(sizeErr, hashErr, startErr, timeErr, err) != nil || again != text {
		return statement{}, wrong
	}
	return s, nil
}

// Keys are the public keys that checkpoints are verified with, as certificates.
type Keys []*x509.Certificate

// keyring is keys by their IDs, which are not unique.
type keyring map[uint32][]*x509.Certificate

func (k Keys) ring() keyring {
	ring := keyring{}
	for _, key := range k {
		ring[keyID(key)] = append(ring[keyID(key)], key)
	}
	return ring
}

// Errors of checkpoints, beside those of what they say.
var (
	errUnknownKey = errors.New("the key that signed the checkpoint is not among the given ones")
	errSignature  = errors.New("the checkpoint's signature is wrong")
)

// open verifies a checkpoint, and gives what it says and the key that signed it. The time of the checkpoint is not held against
// that of the key.
func (k keyring) open(signed string) (statement, *x509.Certificate, error) {
	text, signature, found := strings.Cut(signed, "\n\n")
	encoded, named := strings.CutPrefix(signature, "— "+signerName+" ")
	encoded, ended := strings.CutSuffix(encoded, "\n")
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if !found || !named || !ended || err != nil || len(raw) < 4 || strings.ContainsAny(encoded, "\r\n") {
		return statement{}, nil, errSignature // several signatures, or one that can be written in several ways
	}
	id := binary.BigEndian.Uint32(raw)
	for _, key := range k[id] {
		opened, err := note.Open([]byte(signed), note.VerifierList(verifier{key}))
		if err != nil {
			continue
		}
		s, err := parseStatement(opened.Text)
		if err == nil && opened.Text != text+"\n" {
			err = errSignature
		}
		return s, key, err
	}
	if len(k[id]) == 0 {
		return statement{}, nil, fmt.Errorf("%w (its ID is %08x)", errUnknownKey, id)
	}
	return statement{}, nil, errSignature
}

// keyID is the ID of a key in a signed note, as Rekor has it: the beginning of the SHA-256 of the SubjectPublicKeyInfo.
func keyID(certificate *x509.Certificate) uint32 {
	sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return binary.BigEndian.Uint32(sum[:])
}

// KeyFingerprint is the whole of the hash of which a checkpoint has the beginning, hexadecimal.
func KeyFingerprint(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func validAt(certificate *x509.Certificate, at time.Time) error {
	if at.Before(certificate.NotBefore) || at.After(certificate.NotAfter) {
		return fmt.Errorf("the key is valid from %s to %s, and not at %s", formatTime(certificate.NotBefore), formatTime(certificate.NotAfter), formatTime(at))
	}
	return nil
}

// signer is a note.Signer.
type signer struct{ key *certificates.Pair }

func (s signer) Name() string    { return signerName }
func (s signer) KeyHash() uint32 { return keyID(s.key.Certificate) }

// Sign makes the one signature that this key has for a message (RFC 6979), with the smaller of the two values of s: else someone
// without the key could exchange a signature for another one.
func (s signer) Sign(message []byte) ([]byte, error) {
	public, ok := s.key.Certificate.PublicKey.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, errors.New("the key is not one of ECDSA P-256")
	}
	sum := sha256.Sum256(message)
	signature, err := s.key.Key.Sign(nil, sum[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var parts struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(signature, &parts); err != nil {
		return nil, err
	}
	if order := public.Params().N; isHigh(parts.S, order) {
		parts.S.Sub(order, parts.S)
	}
	return asn1.Marshal(parts)
}

// verifier is a note.Verifier.
type verifier struct{ certificate *x509.Certificate }

func (v verifier) Name() string    { return signerName }
func (v verifier) KeyHash() uint32 { return keyID(v.certificate) }

func (v verifier) Verify(message, signature []byte) bool {
	public, ok := v.certificate.PublicKey.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return false
	}
	sum := sha256.Sum256(message)
	var parts struct{ R, S *big.Int }
	_, err := asn1.Unmarshal(signature, &parts)
	return err == nil && !isHigh(parts.S, public.Params().N) && ecdsa.VerifyASN1(public, sum[:], signature)
}

func isHigh(s, order *big.Int) bool { return s.Cmp(new(big.Int).Rsh(order, 1)) > 0 }
