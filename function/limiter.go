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

// limiter bounds the requests that the service works on at once, so that in a burst some requests are answered in time
// and the others get a 503 at once, instead of all of them being late. Each path has seats of its own, since callers of
// /verify may be unauthenticated. The memory for parsing is shared by all paths, which take turns at it. Requests of
// background scans wait for one of a few seats before they take any of those.
type limiter struct {
	maxBody        int64               // bytes
	bodyTimeout    time.Duration       // for a body to arrive
	wait           time.Duration       // for a byte budget
	backgroundWait time.Duration       // for a background seat, so that as much time is left to answer
	background     *fair.Limiter       // requests of background scans that are answered
	scans          *semaphore.Weighted // those that are answered or wait
	paths          map[string]pathLimits
	usual          *fair.ByteBudget // bytes of bodies that are parsed and planned, with the path as the tenant
	large          *fair.ByteBudget // the same for bodies over usualBody, so that they hold up no smaller one
}

// pathLimits bounds the requests of one path.
type pathLimits struct {
	reading    *semaphore.Weighted // requests that are read, parsed and planned
	largeBytes *semaphore.Weighted // bytes of bodies over usualBody among them
	answering  *fair.Queue         // requests that are answered, with the trust policy as the tenant
	planBytes  *fair.ByteBudget    // bytes of plans over usualBody among them, with the trust policy as the tenant
}

const (
	// usualBody is above what a request for one pod takes; bytes.
	usualBody = 64 << 10
	// largeBodies is how many bodies of maxBody may be in memory at once for each path, or more that are smaller.
	largeBodies = 8
	// largePlans is how many plans of maxBody may be in memory at once for each path while they are answered, or more that
	// are smaller; one trust policy gets maxBody. A plan holds the images of a request and its attestation rules.
	largePlans = 4
	// maxScans is how many requests of background scans are answered or wait at once; each that waits takes a connection.
	maxScans = 256
	// maxBodyTimeout is the upper bound on bodyTimeout; within a cluster a body arrives in milliseconds.
	maxBodyTimeout = 2 * time.Second
)

// errOverloaded and errScans are why a request is answered with 503 while others are worked on.
var (
	errOverloaded = errors.New("the service has too many requests to answer; try again")
	errScans      = errors.New("the service has too many requests of background scans to answer; scan with fewer workers, or raise --maxBackground")
)

func newLimiter(settings Settings) *limiter {
	maxBody := int64(settings.MaxBodyBytes)
	limits := func() pathLimits {
		return pathLimits{semaphore.NewWeighted(int64(settings.MaxRequests)), semaphore.NewWeighted(largeBodies * maxBody), fair.NewQueue(settings.MaxRequests, 0), fair.NewByteBudget(largePlans*maxBody, maxBody)}
	}
	return &limiter{
		maxBody:        maxBody,
		bodyTimeout:    min(maxBodyTimeout, settings.RequestTimeout/4),
		wait:           settings.RequestTimeout / 4,
		backgroundWait: settings.RequestTimeout / 2,
		background:     fair.NewLimiter(settings.MaxBackground),
		scans:          semaphore.NewWeighted(int64(max(maxScans, settings.MaxBackground))),
		paths:          map[string]pathLimits{pathCheck: limits(), pathVerify: limits()},
		// Parsing a body takes up to 55 times its size in memory, and a body over maxBody/8 takes no more than one of that
		// size. Parsing is bound by the processor, so that more of it in parallel would be no faster. Of the largest bodies
		// one is parsed at a time, and a path waits for at most one body of the other path.
		usual: fair.NewByteBudget(maxBody/4, maxBody/8),
		large: fair.NewByteBudget(maxBody/8, maxBody/8),
	}
}

// acquireBackground waits for the seat of a background request, before its body is read, so that those that wait take no
// memory and no seat of an admission. The caller releases it after the answer.
func (l *limiter) acquireBackground(ctx context.Context) (release func(), err error) {
	if !l.scans.TryAcquire(1) {
		return nil, errScans
	}
	ctx, cancel := context.WithTimeout(ctx, l.backgroundWait)
	defer cancel()
	if l.background.Acquire(ctx) != nil {
		l.scans.Release(1)
		return nil, errScans
	}
	return func() {
		l.background.Release()
		l.scans.Release(1)
	}, nil
}

// readSeat is what a request holds while it is read, parsed and planned.
type readSeat struct {
	limits       pathLimits
	largeBytes   int64  // held of limits.largeBytes; 0 for none
	releaseBytes func() // releases the byte budget for parsing; nil for none
}

func (s readSeat) release() {
	if s.releaseBytes != nil {
		s.releaseBytes()
	}
	if s.largeBytes > 0 {
		s.limits.largeBytes.Release(s.largeBytes)
	}
	s.limits.reading.Release(1)
}

// read reads a request's body, and waits until it may be parsed. The caller releases the seat when the request is planned.
func (l *limiter) read(ctx context.Context, w http.ResponseWriter, r *http.Request) (body []byte, seat readSeat, err error) {
	limits, known := l.paths[r.URL.Path]
	if !known || !limits.reading.TryAcquire(1) {
		return nil, readSeat{}, errOverloaded
	}
	seat.limits = limits
	if body, err = l.readBody(ctx, w, r, &seat); err != nil {
		seat.release()
		return nil, readSeat{}, err
	}
	budget := l.usual
	if len(body) > usualBody {
		budget = l.large
	}
	if seat.releaseBytes, err = l.acquireBytes(ctx, budget, r.URL.Path, int64(len(body))); err != nil {
		seat.release()
		return nil, readSeat{}, errOverloaded
	}
	return body, seat, nil
}

// acquireBytes takes n bytes of a budget for a tenant, and waits for them no longer than l.wait.
func (l *limiter) acquireBytes(ctx context.Context, budget *fair.ByteBudget, tenant string, n int64) (release func(), err error) {
	if release, ok := budget.TryAcquire(tenant, n); ok { // the usual case, which needs no timer
		return release, nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.wait)
	defer cancel()
	return budget.Acquire(ctx, tenant, n)
}

// readBody reads a body within bodyTimeout, so that a client that sends slowly cannot keep its seat. Some of the servers
// that run a Knative function cannot set a read deadline; they have timeouts of their own.
func (l *limiter) readBody(ctx context.Context, w http.ResponseWriter, r *http.Request, seat *readSeat) ([]byte, error) {
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Now().Add(l.bodyTimeout))
	source := http.MaxBytesReader(w, r.Body, l.maxBody)
	text := make([]byte, 0, min(max(r.ContentLength, 0), usualBody)+1) // a false Content-Length costs no more than usualBody
	text, err := readUpTo(source, text, usualBody)
	if err == nil {
		size := l.maxBody
		if r.ContentLength >= 0 {
			size = min(size, r.ContentLength) // the server reads no more than that
		}
		ctx, cancel := context.WithTimeout(ctx, l.wait)
		defer cancel()
		if seat.limits.largeBytes.Acquire(ctx, size) != nil {
			return nil, errOverloaded
		}
		seat.largeBytes = size
		_ = connection.SetReadDeadline(time.Now().Add(l.bodyTimeout))
		text = slices.Grow(text, int(size)) // in one step: growing by doubling takes three times as much memory
		text, err = readUpTo(source, text, math.MaxInt)
	}
	if err := l.bodyError(err); err != nil {
		return nil, err // the deadline stays, since the server reads the rest of the body before it answers
	}
	_ = connection.SetReadDeadline(time.Time{}) // else the deadline would cancel the request's context
	return text, nil
}

// readUpTo appends to text what a reader has, until text has at least limit bytes, and then returns a nil error. Otherwise
// it returns the reader's error, which is io.EOF at the end.
func readUpTo(from io.Reader, text []byte, limit int) ([]byte, error) {
	for len(text) < limit {
		if len(text) == cap(text) {
			text = slices.Grow(text, bytes.MinRead)
		}
		n, err := from.Read(text[len(text):min(cap(text), limit)])
		text = text[:len(text)+n]
		if err != nil {
			return text, err
		}
	}
	return text, nil
}

// bodyError turns the error of reading a body into one for the caller; it is nil when the body was read to its end.
func (l *limiter) bodyError(err error) error {
	if err == nil || err == io.EOF {
		return nil
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &core.RequestError{Code: reason.RequestTooLarge, Text: fmt.Sprintf("the body is over %d bytes; send images instead of object, or raise --maxBodyBytes", tooLarge.Limit)}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &core.RequestError{Code: reason.RequestInvalid, Text: fmt.Sprintf("the body did not arrive within %s; send it at once", l.bodyTimeout)}
	case !errors.Is(err, io.EOF):
		return &core.RequestError{Code: reason.RequestInvalid, Text: fmt.Sprintf("the body could not be read: %v", err)}
	}
	return nil
}

// answerSeat is what a request holds until it is answered. The zero value holds nothing.
type answerSeat struct {
	queue        *fair.Queue
	policy       string // the tenant in queue
	releaseBytes func() // releases the byte budget of plans; nil for none
}

func (s answerSeat) release() {
	if s.releaseBytes != nil {
		s.releaseBytes()
	}
	if s.queue != nil {
		s.queue.Release(s.policy, "")
	}
}

// reserve gives a planned request the seat that it needs to be answered; weight is its size in memory, in bytes. The caller
// releases the seat after the answer. No trust policy gets all seats. A plan without tasks takes none: nothing has to be
// looked up for it, for example when its trust policy does not exist.
func (l *limiter) reserve(ctx context.Context, path string, plan core.Plan, weight int) (seat answerSeat, err error) {
	limits, known := l.paths[path]
	if len(plan.Tasks) == 0 {
		return answerSeat{}, nil
	}
	if !known {
		return answerSeat{}, errOverloaded
	}
	if weight > usualBody {
		if seat.releaseBytes, err = l.acquireBytes(ctx, limits.planBytes, plan.Policy, int64(weight)); err != nil {
			return answerSeat{}, errOverloaded
		}
	}
	if limits.answering.Acquire(ctx, plan.Policy, "") != nil {
		seat.release()
		return answerSeat{}, errOverloaded
	}
	seat.queue, seat.policy = limits.answering, plan.Policy
	return seat, nil
}
