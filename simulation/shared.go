package simulation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	core "github.com/nirmata/kyverno-notation-venafi/core/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache"
)

// sharedServer is the model of the server through which replicas share outcomes. What it holds is what replicas sealed.
type sharedServer struct {
	world *World
	seed  uint64

	mu     sync.Mutex
	values map[string]held
	names  []string            // that ever had a value, in order
	past   map[string][][]byte // the last values that each had, for a server that shows old ones
}

// held is a value until it ends.
type held struct {
	value []byte
	until time.Time
}

// pastValues is how many old values of a name a server remembers that shows them.
const pastValues = 4

func newSharedServer(w *World, seed uint64) *sharedServer {
	return &sharedServer{world: w, seed: seed, values: map[string]held{}, past: map[string][][]byte{}}
}

// forget drops some of what is held, and all leases with it: by eviction, or by a restart.
func (s *sharedServer) forget(r random) {
	s.mu.Lock()
	defer s.mu.Unlock()
	share := pick(r, 30, 100)
	for _, name := range s.names {
		if r.chance(share) {
			delete(s.values, name)
		}
	}
}

// get is to be called with s.mu held.
func (s *sharedServer) get(name string) []byte {
	if found := s.values[name]; time.Now().Before(found.until) {
		return found.value
	}
	return nil
}

// set is to be called with s.mu held.
func (s *sharedServer) set(name string, value []byte, life time.Duration) {
	s.values[name] = held{value, time.Now().Add(max(life, time.Millisecond))}
	if s.past[name] == nil {
		s.names = append(s.names, name)
	}
	if s.past[name] = append(s.past[name], value); len(s.past[name]) > pastValues {
		s.past[name] = s.past[name][1:]
	}
}

// sharedLink is the connection of a replica to the server. It is a sharedcache.Store.
type sharedLink struct {
	*sharedServer
	replica *replica
}

var errCut = errors.New("the connection was cut")

// call lets the time of a request pass, has the server do it, and gives what it fails with. Where a connection is cut, nobody knows
// whether the server did it. What is drawn depends on the request and not on others, since many come at one moment.
func (l sharedLink) call(ctx context.Context, name string, do func(r random)) error {
	w := l.world
	of := fnv.New64a()
	fmt.Fprint(of, l.seed, l.replica.id, name, time.Now().UnixNano())
	r := newRandom(of.Sum64(), 9)
	took := r.between(50*time.Microsecond, 2*time.Millisecond)
	if slow := w.active(sharedSlow, 0); slow != nil {
		took += r.between(0, slow.amount)
	}
	if !sleep(ctx, took) {
		return ctx.Err()
	}
	if l.replica.life.Err() != nil { // what a process that has ended wrote does not arrive
		return errGone
	}
	down := w.active(sharedDown, everybody) != nil || w.active(sharedDown, l.replica.id) != nil
	if down && r.chance(70) {
		return errCut
	}
	l.mu.Lock()
	do(r)
	l.mu.Unlock()
	if down {
		return errCut
	}
	return nil
}

// full tells whether it takes no values.
func (l sharedLink) full() bool { return l.world.active(sharedFull, 0) != nil }

// Get is part of sharedcache.Store.
func (l sharedLink) Get(ctx context.Context, name string) (value []byte, err error) {
	err = l.call(ctx, name, func(r random) { value = l.lied(r, name, l.get(name)) })
	return value, err
}

// Claim is part of sharedcache.Store.
func (l sharedLink) Claim(ctx context.Context, entry, lease string, value []byte, life time.Duration) (found, holder []byte, err error) {
	full := l.full()
	err = l.call(ctx, lease, func(r random) {
		if l.get(lease) == nil && !full && !(l.withholds() && l.past[lease] != nil) {
			l.set(lease, value, life)
		}
		found, holder = l.lied(r, entry, l.get(entry)), l.lied(r, lease, l.get(lease))
	})
	if err == nil && full {
		return nil, nil, fmt.Errorf("%w: OOM", sharedcache.ErrReadOnly)
	}
	return found, holder, err
}

// Put is part of sharedcache.Store.
func (l sharedLink) Put(ctx context.Context, entry string, value []byte, life time.Duration, lease string) error {
	full := value != nil && l.full()
	err := l.call(ctx, entry, func(random) {
		if value != nil && !full {
			l.set(entry, value, life)
		}
		delete(l.values, lease)
	})
	if err == nil && full {
		return fmt.Errorf("%w: OOM", sharedcache.ErrReadOnly)
	}
	return err
}

// withholds tells whether it lies in one way all the time: it shows no entry, and the last lease that there was.
func (l sharedLink) withholds() bool {
	lie := l.world.active(sharedLies, 0)
	return lie != nil && lie.amount%2 == 0
}

// lied gives what a server shows in place of a value, while it lies: nothing, what it once had, what belongs elsewhere, a part,
// something else. It is to be called with l.mu held.
func (l sharedLink) lied(r random, name string, value []byte) []byte {
	switch past := l.past[name]; {
	case l.world.active(sharedLies, 0) == nil:
		return value
	case l.withholds() && past != nil && strings.HasSuffix(name, ":lease"):
		return past[len(past)-1]
	case l.withholds():
		return nil
	case r.chance(20):
		return value
	}
	if len(l.names) == 0 {
		return []byte("1")
	}
	past := l.past[name]
	elsewhere := l.past[pick(r, l.names...)]
	switch r.IntN(7) {
	case 0:
		return nil
	case 1, 2:
		if len(past) > 0 {
			return pick(r, past...)
		}
		return nil
	case 3:
		return pick(r, elsewhere...)
	case 4:
		return value[:len(value)-min(len(value), 1+r.IntN(40))]
	case 5:
		changed := bytes.Clone(pick(r, elsewhere...))
		if len(past) > 0 {
			changed = bytes.Clone(pick(r, past...))
		}
		changed[r.IntN(len(changed))] ^= 1 << r.IntN(8)
		return changed
	}
	return slices.Concat(value, pick(r, elsewhere...))
}

// keyPhases are what the Secret with the key has while certmanager replaces it: one key; the next one, which only opens; the new one
// and the one before; the new one alone; and nothing, when the Secret was deleted.
var keyPhases = sync.OnceValue(func() []core.Keyring {
	secret := func(n int) string { return fmt.Sprintf("the secret of number %d, of enough characters", n) }
	phases := []core.Keyring{{}}
	for _, secrets := range [][]string{{secret(0)}, {secret(0), secret(1)}, {secret(1), secret(0)}, {secret(1)}} {
		ring, err := core.NewKeyring(secrets, "simulated")
		if err != nil {
			panic(err)
		}
		phases = append(phases, ring)
	}
	return phases
})

// replaceKey has the Secret be as it is next; or deletes it, or restores it.
func (w *World) replaceKey(r random) {
	now := time.Now()
	next := w.key.value(now)%(len(keyPhases())-1) + 1
	if r.chance(10) {
		next = 0
	}
	w.key.set(now, next)
}

// share gives a replica the second level of its cache.
func (r *replica) share(lag time.Duration) {
	r.shared = sharedcache.New(sharedcache.Options{
		Store: sharedLink{r.world.shared, r},
		Keys:  func() core.Keyring { return keyPhases()[r.world.key.value(latest(time.Now().Add(-lag), begin))] },
		Now:   r.clock, Log: slog.New(slog.DiscardHandler),
	})
}

// askOthers has one replica answer, changes what it saw, and asks another one, perhaps a new one, or itself, which may have the answer of the first.
func (w *World) askOthers(r random) {
	what, first := w.draws(r), r.IntN(len(w.running))
	asked := w.running[first]
	if r.chance(40) {
		w.satisfy(r, what, false)
		time.Sleep(Bounds.Denial)
	}
	w.work.Go(func() { w.ask(asked, what, false) })
	time.Sleep(r.between(500*time.Millisecond, 2*time.Second))
	switch r.IntN(5) {
	case 0:
		w.removeFrom(what)
	case 1:
		w.sign(r)
	case 2:
		w.tags[what.repository][max(what.tag, 0)].set(time.Now(), imageDigest(what.repository, r.IntN(images)))
	case 3:
		w.revoke(r)
	case 4:
		p := drawPolicy(r, what.policy)
		w.setPolicy(policyName(what.policy), &p)
		time.Sleep(Bounds.Trust)
	}
	other := (first + 1) % len(w.running)
	if r.chance(30) {
		w.replace(other, r, time.Millisecond)
		time.Sleep(300 * time.Millisecond)
	}
	asked = w.running[other]
	for range 2 {
		w.work.Go(func() { w.ask(asked, what, false) })
		time.Sleep(r.span(time.Second, w.settings.keep*5/4))
	}
}

// dieAtWork has a replica die while it works on what another one waits for.
func (w *World) dieAtWork(r random) {
	what, first := w.draws(r), r.IntN(len(w.running))
	dies, waits := w.running[first], w.running[(first+1)%len(w.running)]
	w.work.Go(func() { w.ask(dies, what, false) })
	time.Sleep(r.span(time.Millisecond, 100*time.Millisecond))
	w.work.Go(func() { w.ask(waits, what, false) })
	w.replace(first, r, r.span(10*time.Millisecond, time.Second))
}
