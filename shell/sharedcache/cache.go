package sharedcache

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/nirmata/kyverno-notation-venafi/core/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// Store is the server. Nothing that it says is believed. Its methods return when the context ends.
type Store interface {
	// Get gives a value; nil for none.
	Get(ctx context.Context, name string) ([]byte, error)
	// Claim sets the value of a lease for some time if there is none, and gives the entry and the lease as they are then.
	Claim(ctx context.Context, entry, lease string, value []byte, life time.Duration) (found, held []byte, err error)
	// Put sets the value of an entry for some time, and deletes a lease. A nil value only deletes the lease; "" is no lease.
	Put(ctx context.Context, entry string, value []byte, life time.Duration, lease string) error
}

// ErrReadOnly is an answer of a server that takes no values for now, as when it is full. What it has can be read.
var ErrReadOnly = errors.New("it takes no values")

// DefaultWait is how long a verification waits for the server in all.
const DefaultWait = 10 * time.Millisecond

// Patience is how long a verification waits while another replica works on the same. Where verifications take long, it is twice what they take, up
// to MaxPatience.
const (
	Patience    = time.Second
	MaxPatience = 3 * time.Second
)

const (
	leaseLife     = 4 * time.Second        // of a replica that ends while it works
	firstPause    = 4 * time.Millisecond   // between looks while another replica works, which get half of the time that was waited
	longestPause  = 200 * time.Millisecond //
	callLimit     = 250 * time.Millisecond // of a call, which goes on when nobody waits for it any more
	maxWrites     = 256                    // in the background at once; others are left out
	failuresInRow = 20                     // each begun after the one before, after which the server is left alone
	leftAlone     = time.Second            // before one call tries again
	vainInRow     = 3                      // waits for another replica that brought nothing, after which nobody waits
	impatientFor  = 30 * time.Second       // before somebody waits again
)

// Options of a Cache.
type Options struct {
	Store Store
	Keys  func() sharedcache.Keyring // that are in use now
	Wait  time.Duration              // for the server, of one verification in all; 0 is DefaultWait
	Now   func() time.Time           // nil is time.Now
	Log   *slog.Logger
}

// Cache is the second level. Close it in the end.
type Cache struct {
	options Options
	breaker *gobreaker.CircuitBreaker[struct{}]
	counts  [results]atomic.Uint64

	last       atomic.Pointer[error] // the last failure of the server
	lied, full atomic.Bool           // that was logged

	mu      sync.Mutex
	closed  bool
	failed  time.Time     // the last failure that counted
	vain    int           // waits in a row, each begun after the one before, that brought nothing
	vainAt  time.Time     // when the last of them ended
	hastily time.Time     // until then nobody waits for another replica
	work    time.Duration // that it takes to work out facts, of late

	room    chan struct{}  // for background writes
	running sync.WaitGroup // calls, and those who wait for them
}

// New makes a cache.
func New(options Options) *Cache {
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Wait <= 0 {
		options.Wait = DefaultWait
	}
	c := &Cache{options: options, room: make(chan struct{}, maxWrites)}
	c.breaker = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   1,
		Timeout:       leftAlone,
		ReadyToTrip:   func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= failuresInRow },
		IsSuccessful:  func(err error) bool { return err == nil || errors.Is(err, ErrReadOnly) },
		IsExcluded:    func(err error) bool { return errors.Is(err, errGaveUp) || errors.Is(err, errTogether) },
		OnStateChange: func(_ string, from, to gobreaker.State) { c.logState(from, to) },
	})
	return c
}

// Now is the time by the clock of the options.
func (c *Cache) Now() time.Time { return c.options.Now() }

// Close waits for what is written in the background. Nothing is shared after it.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.running.Wait()
}

func (c *Cache) logState(from, to gobreaker.State) {
	switch {
	case to == gobreaker.StateOpen && from == gobreaker.StateClosed:
		c.options.Log.Warn("the shared cache does not answer and is left alone; verifications go on without it", "tried again every", leftAlone.String(), "error", *c.last.Load())
	case to == gobreaker.StateClosed:
		c.options.Log.Info("the shared cache answers again")
	}
}

// Budget is the time that one verification may wait for the server, in all. Nil is none.
type Budget struct{ left atomic.Int64 }

// Budget gives that of a new verification.
func (c *Cache) Budget() *Budget {
	b := &Budget{}
	b.left.Store(int64(c.options.Wait))
	return b
}

// worked is how long it takes to work out facts, of late.
func (c *Cache) worked() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.work
}

// noteWork takes in how long it took.
func (c *Cache) noteWork(took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.work += (took - c.work) / 8
}

// leastWait is not worth a try.
const leastWait = time.Millisecond

// spend does something within what is left of a budget. do gives how long it waited.
func (b *Budget) spend(do func(left time.Duration) (waited time.Duration, err error)) error {
	if b == nil || b.left.Load() < int64(leastWait) {
		return errSpent
	}
	waited, err := do(time.Duration(b.left.Load()))
	b.left.Add(-int64(waited))
	return err
}

var (
	errSpent  = errors.New("this verification has waited long enough for the shared cache")
	errGaveUp = errors.New("the caller gave up")
	// errTogether is a failure that says no more than one before it.
	errTogether = errors.New("it failed together with another call")
)

// exchange calls the server for somebody who waits for up to limit, and tells how long that was, as awaitAnswer does.
func exchange[T any](ctx context.Context, c *Cache, limit time.Duration, call func(context.Context) (T, error)) (answer T, waited time.Duration, err error) {
	if !c.enter() {
		return answer, 0, errGaveUp
	}
	defer c.running.Done()
	return exchangeWhileRunning(ctx, c, limit, call)
}

// enter holds off the end of Close, unless that has begun.
func (c *Cache) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.running.Add(1)
	}
	return !c.closed
}

// exchangeWhileRunning calls the server, unless it is left alone. The call has a goroutine of its own and longer than the caller waits,
// so that a connection is not lost whenever an answer is late: to make a new one takes several answers.
func exchangeWhileRunning[T any](ctx context.Context, c *Cache, limit time.Duration, call func(context.Context) (T, error)) (answer T, waited time.Duration, err error) {
	var failure error
	_, err = c.breaker.Execute(func() (struct{}, error) {
		began, answers := time.Now(), make(chan answered[T], 1)
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(limit, callLimit))
		c.running.Go(func() {
			defer cancel()
			var a answered[T]
			a.err = recovered(func() (err error) { a.answer, err = call(within); return err })
			answers <- a
		})
		answer, waited, failure = awaitAnswer(ctx, limit, answers)
		return struct{}{}, c.weigh(failure, began)
	})
	if failure != nil {
		err = failure
	}
	return answer, waited, err
}

// weigh gives what a failure of a call is for the breaker. Many calls that were under way at once fail for one reason, such as a pause of this
// process, and count once.
func (c *Cache) weigh(err error, began time.Time) error {
	if err == nil || errors.Is(err, errGaveUp) || errors.Is(err, ErrReadOnly) {
		return err
	}
	c.last.Store(&err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if began.Before(c.failed) {
		return errTogether
	}
	c.failed = time.Now()
	return err
}

type answered[T any] struct {
	answer T
	err    error
}

// step is the longest time between looks at what has come. The shorter, the more often a process that seldom gets a processor looks before
// it gives up.
const step = 250 * time.Microsecond

// awaitAnswer waits for an answer for up to limit, and tells how long it waited for the server. A process that others take the processors
// from, or whose quota is used up, notices an answer late, and more often than not together with the end of its timers: that time is not
// the server's. So each step counts as long as it was meant to be, however long it was.
func awaitAnswer[T any](ctx context.Context, limit time.Duration, answers <-chan answered[T]) (answer T, waited time.Duration, err error) {
	timer := time.NewTimer(min(step, limit))
	defer timer.Stop()
	for {
		began, least := time.Now(), min(step, limit-waited)
		select {
		case a := <-answers:
			return a.answer, waited + min(time.Since(began), least), a.err
		case <-ctx.Done():
			return answer, waited, errGaveUp
		case <-timer.C:
			if waited += least; waited >= limit {
				return answer, waited, context.DeadlineExceeded
			}
			timer.Reset(min(step, limit-waited))
		}
	}
}

// recovered turns a panic of the client's library on what the server said into an error.
func recovered(call func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the answer of the shared cache cannot be read: %v", r)
		}
	}()
	return call()
}

// Look gives accept the entry of a lookup that another replica has shared, or shares within Patience. If accept takes it, settle is nil.
// Else settle is to be called once: with what was worked out instead, or with nil where that is not for others.
func (c *Cache) Look(ctx context.Context, budget *Budget, lookup verification.Lookup, accept func(sharedcache.Entry) bool) (settle func(*sharedcache.Entry)) {
	slots := c.options.Keys().Slots(lookup)
	if len(slots) == 0 {
		c.count(Unkeyed)
		return func(*sharedcache.Entry) {}
	}
	for _, slot := range slots {
		var value []byte
		err := budget.spend(func(left time.Duration) (waited time.Duration, err error) {
			value, waited, err = c.get(ctx, left, slot)
			return waited, err
		})
		if err != nil {
			c.countFailure(err)
			return c.sharer(slots[0], "")
		}
		if c.opens(slot, value, accept) {
			c.count(Hit)
			return nil
		}
	}
	return c.await(ctx, budget, slots[0], accept)
}

func (c *Cache) get(ctx context.Context, limit time.Duration, slot sharedcache.Slot) (value []byte, waited time.Duration, err error) {
	return exchange(ctx, c, limit, func(ctx context.Context) ([]byte, error) { return c.options.Store.Get(ctx, slot.Name) })
}

// opens tells whether a value is an entry that counts and is accepted.
func (c *Cache) opens(slot sharedcache.Slot, value []byte, accept func(sharedcache.Entry) bool) bool {
	if value == nil {
		return false
	}
	entry, err := slot.Open(value, c.options.Now())
	if err == nil && accept(entry) {
		return true
	}
	if !c.noteLie(err) {
		c.count(Over)
	}
	return false
}

// noteLie tells whether a value does not count since no replica wrote it for its place, and counts it if so.
func (c *Cache) noteLie(err error) bool {
	if !errors.Is(err, sharedcache.ErrFalse) && !errors.Is(err, sharedcache.ErrOther) { // names are bound to the version
		return false
	}
	c.count(False)
	if !c.lied.Swap(true) {
		c.options.Log.Warn("the shared cache gave a value that no replica wrote for this place; such are counted and not used", "reason", err)
	}
	return true
}

// claimed is what the server has of an image.
type claimed struct{ entry, lease []byte }

// await claims the work, or waits for the replica that has.
func (c *Cache) await(ctx context.Context, budget *Budget, slot sharedcache.Slot, accept func(sharedcache.Entry) bool) func(*sharedcache.Entry) {
	lease := slot.Lease()
	own := c.newLease(lease)
	var now claimed
	claim := func(left time.Duration) (waited time.Duration, err error) {
		now, waited, err = exchange(ctx, c, left, func(ctx context.Context) (now claimed, err error) {
			now.entry, now.lease, err = c.options.Store.Claim(ctx, slot.Name, lease.Name, own, leaseLife)
			return now, err
		})
		return waited, err
	}
	err := budget.spend(claim)
	began, works, work := time.Now(), false, c.worked() // another replica works
	patience := min(max(Patience, 2*work), MaxPatience)
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(deadline)/2) // the rest is for this replica's own work
	}
	for {
		switch {
		case err != nil && works && errors.Is(err, context.DeadlineExceeded): // it still may
		case err != nil:
			c.countFailure(err)
			return c.sharer(slot, "")
		case c.opens(slot, now.entry, accept):
			c.waited(began, true)
			c.count(Awaited)
			return nil
		case bytes.Equal(now.lease, own):
			c.count(Missed)
			return c.sharer(slot, lease.Name)
		case !c.holds(lease, now.lease):
			c.count(Missed)
			return c.sharer(slot, "")
		}
		works = true
		pause := min(max(firstPause, work/16, time.Since(began)/2), longestPause)
		if left := patience - time.Since(began); left <= 0 || !c.patient() || !sleep(ctx, min(pause, left)) {
			c.count(Vain)
			c.waited(began, ctx.Err() != nil || left > 0)
			return c.sharer(slot, "")
		}
		_, err = claim(c.options.Wait)
	}
}

// newLease seals a lease that no other replica has.
func (c *Cache) newLease(lease sharedcache.Slot) []byte {
	now := c.options.Now()
	sealed, _ := lease.SealText([]byte(rand.Text()), now, now.Add(leaseLife+sharedcache.MaxSkew), nonce()) // it is short enough
	return sealed
}

// holds tells whether a lease was written by a replica a short time ago.
func (c *Cache) holds(lease sharedcache.Slot, held []byte) bool {
	if held == nil {
		return false
	}
	_, _, until, err := lease.OpenText(held, c.options.Now())
	c.noteLie(err)
	return err == nil && until.Sub(c.options.Now()) <= leaseLife+2*sharedcache.MaxSkew
}

// patient tells whether it is worth the while to wait for another replica.
func (c *Cache) patient() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !time.Now().Before(c.hastily)
}

// waited notes a wait for another replica that is over. Many that were under way at once are in vain for one reason, such as a machine that has too
// much to do, and count once.
func (c *Cache) waited(began time.Time, well bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if well {
		c.vain = 0
		return
	}
	if began.Before(c.vainAt) {
		return
	}
	c.vainAt = time.Now()
	if c.vain++; c.vain >= vainInRow {
		c.vain, c.hastily = 0, time.Now().Add(impatientFor)
	}
}

// sleep waits; false if the context ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// sharer shares what was worked out, and gives up a lease if there is one.
func (c *Cache) sharer(slot sharedcache.Slot, lease string) func(*sharedcache.Entry) {
	began := time.Now()
	return func(entry *sharedcache.Entry) {
		var sealed []byte
		var life time.Duration
		if entry != nil {
			if entry.Fact != nil {
				c.noteWork(time.Since(began))
			}
			sealed, _ = slot.Seal(*entry, nonce())
			if life = entry.Until.Sub(c.options.Now()); sealed == nil || life <= 0 {
				c.count(Unfit)
				sealed = nil
			}
		}
		if sealed != nil || lease != "" {
			c.write(func(ctx context.Context) error { return c.options.Store.Put(ctx, slot.Name, sealed, life, lease) })
		}
	}
}

// write writes in the background, if there is room.
func (c *Cache) write(put func(context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	select {
	case c.room <- struct{}{}:
	default:
		c.count(Dropped)
		return
	}
	c.running.Go(func() {
		defer func() { <-c.room }()
		_, _, err := exchangeWhileRunning(context.Background(), c, callLimit, func(ctx context.Context) (struct{}, error) { return struct{}{}, put(ctx) })
		switch {
		case err == nil:
			c.count(Written)
			c.full.Store(false) // the next time is told again
		case errors.Is(err, ErrReadOnly):
			c.count(Refused)
			if !c.full.Swap(true) {
				c.options.Log.Warn("the shared cache takes no values; what it has is read", "reason", err)
			}
		default:
			c.countFailure(err)
		}
	})
}

func nonce() (n [sharedcache.NonceSize]byte) {
	_, _ = rand.Read(n[:]) // which never fails
	return n
}

// Note gives a short text that a replica has put under a topic and that still counts. It waits no longer than a verification does.
func (c *Cache) Note(ctx context.Context, topic string) ([]byte, bool) {
	for _, slot := range c.options.Keys().Notes(topic) {
		value, _, err := c.get(ctx, c.options.Wait, slot)
		if err != nil {
			c.countFailure(err)
			return nil, false
		}
		if value == nil {
			continue
		}
		text, _, _, err := slot.OpenText(value, c.options.Now())
		if err == nil {
			return text, true
		}
		c.noteLie(err)
	}
	return nil, false
}

// PutNote puts a text under a topic, in the background. The text must not end in a blank.
func (c *Cache) PutNote(topic string, text []byte, until time.Time) {
	slots, now := c.options.Keys().Notes(topic), c.options.Now()
	life := until.Sub(now)
	if len(slots) == 0 || life <= 0 {
		return
	}
	if sealed, ok := slots[0].SealText(text, now, until, nonce()); ok {
		c.write(func(ctx context.Context) error { return c.options.Store.Put(ctx, slots[0].Name, sealed, life, "") })
	}
}
