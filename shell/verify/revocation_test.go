package verify

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/notaryproject/notation-core-go/revocation/crl"
	"golang.org/x/sync/semaphore"
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
