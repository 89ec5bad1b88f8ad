package verify

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/notaryproject/notation-core-go/revocation/crl"
	"golang.org/x/sync/semaphore"

	"github.com/nirmata/kyverno-notation-venafi/shell/egress"
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

func TestRevocationCacheIsBounded(t *testing.T) {
	cache := newCRLCache()
	url := func(i int) string { return fmt.Sprintf("http://crl.invalid/%d", i) }
	const lists, size = 40, 1 << 20
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

func TestRevocationListsAreBoundedWhileRead(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	turns, closed := semaphore.NewWeighted(1), 0
	open := func(ctx context.Context) *crlBody {
		return newCRLBody(ctx, endless{&closed}, turns)
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

func TestRevocationListsOfManyAddressesAreRefused(t *testing.T) {
	for n, refused := range map[int]bool{maxAddresses: false, 1000: true} {
		text := strings.NewReader(strings.Repeat("http://crl.invalid/", n))
		body := newCRLBody(t.Context(), io.NopCloser(text), semaphore.NewWeighted(1))
		if _, err := io.ReadAll(body); (err != nil) != refused {
			t.Errorf("%d addresses: %v", n, err)
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = pem.Encode(w, &pem.Block{Type: "X509 CRL", Bytes: bytes.Repeat([]byte("http://crl.invalid/"), n)})
		}))
		response, err := (&http.Client{Transport: crlTransport{http.DefaultTransport, semaphore.NewWeighted(1)}}).Get(server.URL)
		if (err != nil) != refused {
			t.Errorf("%d addresses in PEM: %v", n, err)
		}
		if err == nil {
			response.Body.Close()
		}
		server.Close()
	}
}

func TestRevocationCacheCountsDecodedBytes(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for i := range 50_000 {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(int64(i + 1)), RevocationTime: time.Now()})
	}
	issuer := &x509.Certificate{SubjectKeyId: []byte{1}, KeyUsage: x509.KeyUsageCRLSign, PublicKey: key.Public()}
	text, err := x509.CreateRevocationList(rand.Reader, list, issuer, key)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	decoded, err := x509.ParseRevocationList(text)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	took := int(after.HeapAlloc) - int(before.HeapAlloc)
	if counted := sizeOfLists(&crl.Bundle{BaseCRL: decoded}); counted < took*3/4 {
		t.Errorf("%d bytes are counted for what takes %d", counted, took)
	}
}

func TestRevocationHeadersAreBounded(t *testing.T) {
	check, err := newRevocationCheck(egress.Rule{AllowLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(check.close)
	for size, refused := range map[int]bool{1 << 10: false, 2 * maxRevocationHeader: true} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", size))
		}))
		response, err := (&http.Client{Transport: check.transport}).Get(server.URL)
		if (err != nil) != refused {
			t.Errorf("a header of %d bytes: %v", size, err)
		}
		if err == nil {
			response.Body.Close()
		}
		server.Close()
	}
}

func TestDecompressionEndsWithTheRequest(t *testing.T) {
	var part bytes.Buffer
	if err := gzip.NewWriter(&part).Close(); err != nil {
		t.Fatal(err)
	}
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	frame := append(encoder.EncodeAll([]byte("{"), nil), bytes.Repeat([]byte("\x50\x2a\x4d\x18\x00\x00\x00\x00"), 100_000)...) // frames to skip
	for name, data := range map[string][]byte{"gzip": bytes.Repeat(part.Bytes(), 100_000), "zstd": frame} {
		asked := 0
		_, err := decompress(data, func() bool { asked++; return asked > 3 })
		if err == nil || !strings.Contains(err.Error(), "time ran out") {
			t.Errorf("%s, asked %d times: %v", name, asked, err)
		}
	}
}
