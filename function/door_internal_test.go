package function

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
)

// heldTrust is asked for when a request is planned, and then waits. It is not loaded for more than have room in asked.
type heldTrust struct{ asked, release chan struct{} }

// Snapshot waits to be released.
func (h heldTrust) Snapshot() (core.Snapshot, bool) {
	select {
	case h.asked <- struct{}{}:
		<-h.release
		return core.Snapshot{}, true
	default:
		return core.Snapshot{}, false
	}
}

// largeBody is over what is usual.
var largeBody = `{"images":{},"trustPolicy":"p","metadata":"` + strings.Repeat("x", 2*usualBody) + `"}`

func arrival(path string, body io.Reader) (http.ResponseWriter, *http.Request) {
	return httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, path, body)
}

// TestPlacesAreHeldUntilTheRequestIsPlanned since what is made of a body takes more than the body.
func TestPlacesAreHeldUntilTheRequestIsPlanned(t *testing.T) {
	tests := map[string]struct {
		body   string
		places int // that are taken by such requests
	}{
		"of a usual request": {`{"images":{},"trustPolicy":"p"}`, 20},
		"of a large one":     {largeBody, largeBodies},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			trust := heldTrust{make(chan struct{}, test.places), make(chan struct{})}
			f := &Function{trust: trust, door: newDoor(Settings{MaxRequests: 20, MaxBodyBytes: 1 << 20})}
			planned := make(chan error)
			for range test.places {
				go func() {
					_, err := f.understood(arrival(pathCheck, strings.NewReader(test.body)))
					planned <- err
				}()
			}
			for len(trust.asked) < test.places { // all are being planned
				time.Sleep(time.Millisecond)
			}
			if _, err := f.understood(arrival(pathCheck, strings.NewReader(test.body))); !errors.Is(err, errOverloaded) {
				t.Errorf("one more while they are planned: %v", err)
			}
			close(trust.release)
			for range test.places {
				if err := <-planned; err != nil {
					t.Error(err)
				}
			}
			<-trust.asked
			if _, err := f.understood(arrival(pathCheck, strings.NewReader(test.body))); err != nil {
				t.Errorf("one more after that: %v", err)
			}
		})
	}
}

// TestBodiesThatStall at the path that everyone may ask do not keep others from asking at the other.
func TestBodiesThatStall(t *testing.T) {
	d := newDoor(Settings{MaxRequests: 100, MaxBodyBytes: 1 << 20})
	ended := make(chan struct{})
	var stalled []*io.PipeWriter
	for range largeBodies {
		body, sender := io.Pipe()
		stalled = append(stalled, sender)
		go func() {
			w, r := arrival(pathVerify, body)
			if _, leave, err := d.read(w, r); err == nil {
				leave()
			}
			ended <- struct{}{}
		}()
		if _, err := io.WriteString(sender, largeBody); err != nil { // returns when it is read
			t.Fatal(err)
		}
	}
	for path, want := range map[string]error{pathVerify: errOverloaded, pathCheck: nil} {
		w, r := arrival(path, strings.NewReader(largeBody))
		_, leave, err := d.read(w, r)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v; want %v", path, err, want)
		}
		if err == nil {
			leave()
		}
	}
	for _, sender := range stalled {
		sender.Close()
		<-ended
	}
}
