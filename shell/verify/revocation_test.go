package verify

import (
	"crypto/x509"
	"errors"
	"fmt"
	"testing"

	"github.com/notaryproject/notation-core-go/revocation/crl"
)

// TestRevocationListsAreKeptWithinBounds of their size, those that came last first.
func TestRevocationListsAreKeptWithinBounds(t *testing.T) {
	cache := newCRLCache()
	url := func(i int) string { return fmt.Sprintf("http://crl.invalid/%d", i) }
	const lists, size = 20, 1 << 20
	for i := range lists {
		list := &x509.RevocationList{Raw: make([]byte, size)}
		if err := cache.Set(t.Context(), url(i), &crl.Bundle{BaseCRL: list, DeltaCRL: list}); err != nil {
			t.Fatal(err)
		}
	}
	if n := cache.lists.Len(); n != maxCRLBytes/(2*size) {
		t.Errorf("%d are kept; want %d", n, maxCRLBytes/(2*size))
	}
	if _, err := cache.Get(t.Context(), url(0)); !errors.Is(err, crl.ErrCacheMiss) {
		t.Errorf("the first: %v", err)
	}
	if _, err := cache.Get(t.Context(), url(lists-1)); err != nil {
		t.Errorf("the last: %v", err)
	}
	if err := cache.Set(t.Context(), "huge", &crl.Bundle{BaseCRL: &x509.RevocationList{Raw: make([]byte, 2*maxCRLBytes)}}); err != nil {
		t.Fatal(err)
	}
	if n := cache.lists.Len(); n != maxCRLBytes/(2*size) {
		t.Errorf("%d are kept after one that is over the bound; want %d", n, maxCRLBytes/(2*size))
	}
}
