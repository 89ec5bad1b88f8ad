package function

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/shell/fair"
)

// door bounds the requests that are worked on at once, so that a burst is answered in part and at once rather than
// wholly and late. What it holds back is told to try again. Each path has places of its own, since not all of them need
// ask who comes. The memory in which requests are parsed is common to them, and they take turns at it.
type door struct {
	maxBody int64         // bytes
	arrival time.Duration // of a body, at most
	wait    time.Duration // for room in memory, and to be parsed, at most
	paths   map[string]path
	usual   *fair.ByteBudget // bytes of bodies that are parsed and planned, by path
	large   *fair.ByteBudget // the same for those over usualBody, so that they hold up no usual one
}

// path bounds the requests of one path.
type path struct {
	requests *semaphore.Weighted // that are read and planned
	large    *semaphore.Weighted // bytes of those bodies that are over usualBody
	inside   *fair.Queue         // that are being judged, by trust policy
	staying  *fair.ByteBudget    // bytes of those of them over usualBody, by trust policy
}

const (
	// usualBody is what a request for a pod takes; bytes.
	usualBody = 64 << 10
	// largeBodies of maxBody, or more that are smaller, may be in memory at once, of a path.
	largeBodies = 8
	// largeDemands of maxBody, or more that are smaller, may stay in memory while requests are judged, of a path, each
	// under another trust policy. What stays of a request are its images and what it demands of them.
	largeDemands = 4
	// bodyTime is how long a body may take to arrive; from within the cluster it takes milliseconds.
	bodyTime = 2 * time.Second
)

// errOverloaded is why a request is answered with 503 while others are worked on.
var errOverloaded = errors.New("the service has too many requests to answer; try again")

func newDoor(settings Settings) *door {
	most := int64(settings.MaxBodyBytes)
	bounded := func() path {
		return path{semaphore.NewWeighted(int64(settings.MaxRequests)), semaphore.NewWeighted(largeBodies * most), fair.NewQueue(settings.MaxRequests, 0), fair.NewByteBudget(largeDemands*most, most)}
	}
	paths := map[string]path{pathCheck: bounded(), pathVerify: bounded()}
	return &door{
		maxBody: most,
		arrival: min(bodyTime, settings.RequestTimeout/4),
		wait:    settings.RequestTimeout / 4,
		paths:   paths,
		// What is made of a body takes up to 55 times as much, of one over most/8 as much as of that. It is done at the
		// speed of a core, so that more at once would be no faster: of the largest bodies it is one, and a path waits for
		// no more than one of the other.
		usual: fair.NewByteBudget(most/4, most/8),
		large: fair.NewByteBudget(most/8, most/8),
	}
}

// reading is what a request holds while its body is read and planned.
type reading struct {
	at    path
	large int64  // bytes, of at.large; 0 for none
	give  func() // gives room back; nil for none
}

func (r reading) leave() {
	if r.give != nil {
		r.give()
	}
	if r.large > 0 {
		r.at.large.Release(r.large)
	}
	r.at.requests.Release(1)
}

// read reads a request's body, and waits until it can be parsed. What it holds is to be left when the request is planned.
func (d *door) read(ctx context.Context, w http.ResponseWriter, r *http.Request) (body []byte, held reading, err error) {
	at, known := d.paths[r.URL.Path]
	if !known || !at.requests.TryAcquire(1) {
		return nil, reading{}, errOverloaded
	}
	held.at = at
	if body, err = d.body(ctx, w, r, &held); err != nil {
		held.leave()
		return nil, reading{}, err
	}
	room := d.usual
	if len(body) > usualBody {
		room = d.large
	}
	if held.give, err = d.take(ctx, room, r.URL.Path, int64(len(body))); err != nil {
		held.leave()
		return nil, reading{}, errOverloaded
	}
	return body, held, nil
}

// take waits for room no longer than the door has anyone wait.
func (d *door) take(ctx context.Context, room *fair.ByteBudget, tenant string, n int64) (give func(), err error) {
	if give, ok := room.TryAcquire(tenant, n); ok { // as a rule, and without a clock
		return give, nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.wait)
	defer cancel()
	return room.Acquire(ctx, tenant, n)
}

// body reads a body, for which a caller that sends slowly holds what others need no longer than the door's time. Of the
// servers that functions run under not all can set a deadline; they have their own.
func (d *door) body(ctx context.Context, w http.ResponseWriter, r *http.Request, held *reading) ([]byte, error) {
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Now().Add(d.arrival))
	source := http.MaxBytesReader(w, r.Body, d.maxBody)
	text := make([]byte, 0, min(max(r.ContentLength, 0), usualBody)+1) // what a caller claims costs no more than that
	text, err := readUpTo(source, text, usualBody)
	if err == nil {
		size := d.maxBody
		if r.ContentLength >= 0 {
			size = min(size, r.ContentLength) // of which the server gives no more
		}
		ctx, cancel := context.WithTimeout(ctx, d.wait)
		defer cancel()
		if held.at.large.Acquire(ctx, size) != nil {
			return nil, errOverloaded
		}
		held.large = size
		_ = connection.SetReadDeadline(time.Now().Add(d.arrival))
		text = slices.Grow(text, int(size)) // at once: to double it again and again takes three times as much
		text, err = readUpTo(source, text, math.MaxInt)
	}
	if err := d.unreadable(err); err != nil {
		return nil, err // and the deadline stays, since the server reads the rest
	}
	_ = connection.SetReadDeadline(time.Time{}) // or the request would end with it
	return text, nil
}

// readUpTo appends to a text what a reader gives, until the text has so many bytes. The error is nil then, and else that of
// the reader, io.EOF at its end.
func readUpTo(from io.Reader, text []byte, most int) ([]byte, error) {
	for len(text) < most {
		if len(text) == cap(text) {
			text = slices.Grow(text, bytes.MinRead)
		}
		n, err := from.Read(text[len(text):min(cap(text), most)])
		text = text[:len(text)+n]
		if err != nil {
			return text, err
		}
	}
	return text, nil
}

// unreadable says why a body could not be read; nil when it was.
func (d *door) unreadable(err error) error {
	if err == nil || err == io.EOF {
		return nil
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &core.RequestError{Code: reason.RequestTooLarge, Text: fmt.Sprintf("the body is over %d bytes; send images instead of object, or raise --maxBodyBytes", tooLarge.Limit)}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &core.RequestError{Code: reason.RequestInvalid, Text: fmt.Sprintf("the body did not arrive within %s; send it at once", d.arrival)}
	case !errors.Is(err, io.EOF):
		return &core.RequestError{Code: reason.RequestInvalid, Text: fmt.Sprintf("the body could not be read: %v", err)}
	}
	return nil
}

// answering is what a request holds until it is answered. The zero value holds nothing.
type answering struct {
	inside *fair.Queue
	policy string // under which
	give   func() // gives room back; nil for none
}

func (a answering) leave() {
	if a.give != nil {
		a.give()
	}
	if a.inside != nil {
		a.inside.Release(a.policy, "")
	}
}

// admit lets a planned request of a path, of a weight, be judged; what it holds is to be left when it is answered. No trust
// policy gets all places, and a request of which nothing has to be found out, such as one that names a trust policy that
// does not exist, takes none.
func (d *door) admit(ctx context.Context, path string, plan core.Plan, weight int) (held answering, err error) {
	at, known := d.paths[path]
	if len(plan.Tasks) == 0 {
		return answering{}, nil
	}
	if !known {
		return answering{}, errOverloaded
	}
	if weight > usualBody {
		if held.give, err = d.take(ctx, at.staying, plan.Policy, int64(weight)); err != nil {
			return answering{}, errOverloaded
		}
	}
	if at.inside.Acquire(ctx, plan.Policy, "") != nil {
		held.leave()
		return answering{}, errOverloaded
	}
	held.inside, held.policy = at.inside, plan.Policy
	return held, nil
}
