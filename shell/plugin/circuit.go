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

// blame is whom a failure speaks against. The zero value is the signature: the plugin did its work and refused.
type blame int

const (
	blameSignature blame = iota
	blamePlugin          // it hung, crashed, flooded, spoke nonsense or could not be started
	blameCaller          // it left, or gave too little time; the plugin may be fine
)

func blamed(err error) blame {
	var failure *Error
	if errors.As(err, &failure) {
		return failure.blame
	}
	return blameSignature
}

const (
	// patience is how many failures in a row, each the plugin's own, open its circuit.
	patience = 5
	// maxCircuits bounds those that are remembered, since signatures choose them; idleCircuit is for how long.
	maxCircuits = 256
	idleCircuit = 10 * time.Minute
)

// circuits keep callers from waiting for a plugin that is broken. There is one for each plugin file, each root
// certificate of the signatures that it verifies, and each address from which they have it fetch a certificate: what one
// signer makes a plugin do, such as fetching what crashes it, does not take it away from others.
type circuits struct {
	pause time.Duration
	known *ttlcache.Cache[string, *circuit]
}

// circuit lets one process try after each pause for as long as the plugin fails.
type circuit struct {
	breaker *gobreaker.CircuitBreaker[struct{}]
	pause   time.Duration

	mu     sync.Mutex
	opened time.Time
	last   *Error // that was the plugin's fault; nil before the first
}

func newCircuits(pause time.Duration) *circuits {
	return &circuits{pause: pause, known: ttlcache.New(
		ttlcache.WithTTL[string, *circuit](idleCircuit),
		ttlcache.WithCapacity[string, *circuit](maxCircuits),
	)}
}

// of gives the circuit of a key.
func (c *circuits) of(key string) *circuit {
	item, _ := c.known.GetOrSetFunc(key, func() *circuit { return newCircuit(c.pause) })
	return item.Value()
}

// open counts the circuits that let nobody through.
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
		ReadyToTrip:  func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= patience },
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

// do calls the plugin unless the circuit is open; the error is then the refusal.
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

// refusal has the code of the failure that was seen last, since its remedy is the one that helps.
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
