package verify

import (
	"context"
	"time"

	core "github.com/nirmata/kyverno-notation-venafi/core/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache"
)

// SharedCache is the second level of the cache, which replicas share.
type SharedCache interface {
	// Now is the time by the clock that entries are made by.
	Now() time.Time
	// Budget is the time that a verification may wait in all.
	Budget() *sharedcache.Budget
	// Look gives accept what another replica worked out for a lookup. If accept takes it, settle is nil. Else settle is to be called once:
	// with what was worked out instead, or with nil where that is not for others. An entry is one that a replica with the same keys made.
	Look(ctx context.Context, budget *sharedcache.Budget, lookup verification.Lookup, accept func(core.Entry) bool) (settle func(*core.Entry))
}

func (g *Gatherer) budget() *sharedcache.Budget {
	if g.options.Shared == nil {
		return nil
	}
	return g.options.Shared.Budget()
}

// fromOthers gives what another replica worked out for a lookup, and for how long it is kept. Where there is none that counts, share
// is to be called with the answer to the lookup or with the facts, whichever it is, after which other replicas may have it.
func (c course) fromOthers(ctx context.Context, lookup verification.Lookup) (found *core.Entry, keep cache.Keep, share func(*verification.Answer, *verification.Fact)) {
	key, ok := c.sharedKey(lookup)
	if !ok {
		return nil, cache.Keep{}, func(*verification.Answer, *verification.Fact) {}
	}
	settle := c.options.Shared.Look(ctx, c.budget, key, func(entry core.Entry) bool {
		now := c.options.Shared.Now()
		until, counts := entry.Counts(c.task, lookup, now)
		if counts {
			found, keep = &entry, cache.Keep{For: until.Sub(now), Until: until}
		}
		return counts
	})
	if found != nil {
		if found.Fact != nil {
			keep.Bytes = found.Fact.Weight()
		}
		return found, keep, nil
	}
	began := c.options.Shared.Now()
	return nil, cache.Keep{}, func(answer *verification.Answer, fact *verification.Fact) {
		entry, fit := core.NewEntry(c.task, lookup, answer, fact, began)
		if !fit || ctx.Err() != nil || c.revision() != c.task.Plugins {
			settle(nil)
			return
		}
		entry.Decision = c.recording.decision()
		settle(&entry)
	}
}

// sharedKey is the lookup as other replicas have it: their plugins' files are other files with the same content.
func (c course) sharedKey(lookup verification.Lookup) (verification.Lookup, bool) {
	if c.options.Shared == nil || !core.Sharable(lookup.Kind) {
		return lookup, false
	}
	if lookup.Trust.Plugins != "" && c.options.Simulated == nil {
		lookup.Trust.Plugins = c.plugins.Content(lookup.Trust.Plugins)
		return lookup, lookup.Trust.Plugins != ""
	}
	return lookup, true
}
