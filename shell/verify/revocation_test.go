package verify

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/revocation/crl"
	"golang.org/x/sync/semaphore"
)

// listsOf makes a CA, and lists of revoked certificates that it signs, with as many bytes beside.
func listsOf(t *testing.T) (ca *x509.Certificate, sign func(size int) *x509.RevocationList) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), SubjectKeyId: []byte{1}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err == nil {
		ca, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ca, func(size int) *x509.RevocationList {
		list := &x509.RevocationList{
			Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, size)}},
		}
		der, err := x509.CreateRevocationList(rand.Reader, list, ca, key)
		if err == nil {
			list, err = x509.ParseRevocationList(der)
		}
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
}

// TestRevocationListsAreKeptWithinBounds of their size, those that came last first, and none that the CA did not sign.
func TestRevocationListsAreKeptWithinBounds(t *testing.T) {
	cache := newCRLCache()
	url := func(i int) string { return fmt.Sprintf("http://crl.invalid/%d", i) }
	const lists, size = 20, 1 << 20
	ca, sign := listsOf(t)
	_, forge := listsOf(t)
	ctx, list, forged := withIssuers(t.Context(), []*x509.Certificate{ca}), sign(size-1000), forge(1)
	for i := range lists {
		if err := cache.Set(ctx, url(i), &crl.Bundle{BaseCRL: list, DeltaCRL: list}); err != nil {
			t.Fatal(err)
		}
	}
	if n := cache.lists.Len(); n != maxCRLBytes/(2*size) {
		t.Errorf("%d are kept; want %d", n, maxCRLBytes/(2*size))
	}
	if _, err := cache.Get(ctx, url(0)); !errors.Is(err, crl.ErrCacheMiss) {
		t.Errorf("the first: %v", err)
	}
	if _, err := cache.Get(ctx, url(lists-1)); err != nil {
		t.Errorf("the last: %v", err)
	}
	for sentence, bundle := range map[string]crl.Bundle{
		"one over the bound":         {BaseCRL: sign(maxCRLBytes)},
		"one of another CA":          {BaseCRL: forged},
		"a supplement of another CA": {BaseCRL: list, DeltaCRL: forged},
		"one with another signature": {BaseCRL: &x509.RevocationList{Raw: list.Raw, RawTBSRevocationList: list.RawTBSRevocationList, SignatureAlgorithm: list.SignatureAlgorithm, Signature: forged.Signature}},
	} {
		if err := cache.Set(ctx, sentence, &bundle); err != nil {
			t.Fatal(err)
		}
		if _, err := cache.Get(ctx, sentence); !errors.Is(err, crl.ErrCacheMiss) {
			t.Errorf("%s: %v", sentence, err)
		}
	}
	if n := cache.lists.Len(); n != maxCRLBytes/(2*size) {
		t.Errorf("%d are kept after those that are not; want %d", n, maxCRLBytes/(2*size))
	}
}

// endless is a list that has no end.
type endless struct{ closed *int }

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func (e endless) Close() error {
	*e.closed++
	return nil
}

// TestListsAreBoundedAsTheyAreRead: each one, and the large ones together.
func TestListsAreBoundedAsTheyAreRead(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	turns, closed := semaphore.NewWeighted(1), 0
	open := func(ctx context.Context) *crlBody {
		return &crlBody{body: endless{&closed}, ctx: ctx, large: turns}
	}
	first, small, large := open(t.Context()), open(ended), open(ended)
	if n, err := io.Copy(io.Discard, first); err == nil || n > maxCRL || n < maxCRL/2 || !strings.Contains(err.Error(), "more than") {
		t.Errorf("%d bytes of an endless list are read: %v", n, err)
	}
	if _, err := io.CopyN(io.Discard, small, smallCRL); err != nil {
		t.Errorf("a small list beside a large one: %v", err)
	}
	if _, err := io.CopyN(io.Discard, large, 2*smallCRL); !errors.Is(err, context.Canceled) {
		t.Errorf("a second large list is read: %v", err)
	}
	for _, list := range []*crlBody{first, small, large} {
		if err := list.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := io.CopyN(io.Discard, open(t.Context()), 2*smallCRL); err != nil || closed != 3 {
		t.Errorf("a large list after the first: %v; %d are closed", err, closed)
	}
}
