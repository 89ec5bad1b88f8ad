package plugin

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"github.com/sony/gobreaker/v2"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// blame says whose fault a failure is. The zero value is the signature's: the plugin did its work and refused.
type blame int

const (
	blameSignature blame = iota
	blamePlugin          // it hung, crashed, wrote too much, violated the protocol or could not be started
	blameCaller          // it gave up, or gave too little time; the plugin may be fine
)

func blamed(err error) blame {
	var failure *Error
	if errors.As(err, &failure) {
		return failure.blame
	}
	return blameSignature
}

const (
	// failuresToOpen is how many failures in a row, each the plugin's own fault, open its circuit.
	failuresToOpen = 5
	// maxCircuits bounds the circuits that are remembered, since signatures choose their keys; idleCircuit is for how long.
	maxCircuits = 256
	idleCircuit = 10 * time.Minute
)

// circuits are circuit breakers: they keep callers from waiting for a broken plugin. There is one per plugin file, root
// certificate of the signature, and address from which the signature has the plugin fetch a certificate. So a signer whose
// signatures crash the plugin does not take it away from other signers.
type circuits struct {
	pause time.Duration
	known *ttlcache.Cache[string, *circuit]
}

// circuit is a circuit breaker. While it is open, one process may try after each pause.
type circuit struct {
	breaker *gobreaker.CircuitBreaker[struct{}]
	pause   time.Duration

	mu     sync.Mutex
	opened time.Time
	last   *Error // the last failure that was the plugin's fault; nil before the first
}

func newCircuits(pause time.Duration) *circuits {
	return &circuits{pause: pause, known: ttlcache.New(
		ttlcache.WithTTL[string, *circuit](idleCircuit),
		ttlcache.WithCapacity[string, *circuit](maxCircuits),
	)}
}

// of gives the circuit of a key, and makes it where there is none.
func (c *circuits) of(key string) *circuit {
	item, _ := c.known.GetOrSetFunc(key, func() *circuit { return newCircuit(c.pause) })
	return item.Value()
}

// open counts the open circuits.
func (c *circuits) open() (n int) {
	c.known.Range(func(item *ttlcache.Item[string, *circuit]) bool {
		if item.Value().isOpen() {
			n++
		}
		return true
	})
	return n
}

func newCircuit(pause time.Duration) *circuit {
	c := &circuit{pause: pause}
	c.breaker = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:  1,
		Timeout:      pause,
		ReadyToTrip:  func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= failuresToOpen },
		IsSuccessful: func(err error) bool { return blamed(err) != blamePlugin },
		IsExcluded:   func(err error) bool { return blamed(err) == blameCaller },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.opened = time.Now()
			}
		},
	})
	return c
}

func (c *circuit) isOpen() bool { return c.breaker.State() == gobreaker.StateOpen }

// do calls the plugin, unless the circuit is open: then the error is its refusal.
func (c *circuit) do(call func() error) error {
	_, err := c.breaker.Execute(func() (struct{}, error) {
		err := call()
		var failure *Error
		if errors.As(err, &failure) && failure.blame == blamePlugin {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.last = failure
		}
		return struct{}{}, err
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return c.refusal()
	}
	return err
}

// refusal has the code of the last failure, since the remedy is the same.
func (c *circuit) refusal() *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &Error{Code: reason.PluginFailed, blame: blameCaller, open: true, Text: "the plugin is left alone for now, since it keeps failing"}
	if c.last != nil {
		e.Code, e.cause = c.last.Code, c.last
		e.Text = fmt.Sprintf("%s; since it kept failing, it is left alone from %s for %s, and then tried again",
			c.last.Text, c.opened.UTC().Format(time.RFC3339), c.pause)
	}
	return e
}
