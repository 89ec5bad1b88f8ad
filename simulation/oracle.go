package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/sharedcache"
)

// Bounds are how old what an answer relies on may be, as the documents promise.
var Bounds = struct {
	Trust     time.Duration // a change of trust takes effect everywhere
	Reconnect time.Duration // trust is followed again after the API server can be reached again
	Unnoticed time.Duration // a connection that broke unnoticed is given up
	Event     time.Duration // trust is as it was when a replica was told of a change, by an event or the epoch
	Denial    time.Duration // for which a denial is kept
	Deadline  time.Duration // past its own time that a request may take
}{
	Trust: time.Second, Reconnect: 4 * time.Second, Unnoticed: 45 * time.Second, Event: time.Second, Denial: 10 * time.Second, Deadline: 200 * time.Millisecond,
}

// window is a span of time; what was the case at any moment of it counts. now is when a request began.
type window struct{ from, to, now time.Time }

// possible says what an answer may be: one of both, or either where something changed in the window.
type possible struct{ admitted, denied bool }

// judge says why nothing justifies an answer; "" where something does.
func (w *World) judge(a *asked) string {
	switch took := a.end.Sub(a.begin); {
	case took > w.settings.timeout+Bounds.Deadline:
		return fmt.Sprintf("it took %s; its time is %s", took, w.settings.timeout)
	case a.gone:
		return ""
	case a.notReady:
		if a.begin.Before(a.replica.started.Add(Bounds.Reconnect)) || w.apiFailed(a.replica, a.begin) {
			return ""
		}
		return "the replica has no trust, and nothing keeps it from the API server"
	}
	switch a.result.Code.Class() {
	case reason.Admitted:
		return w.judgeAdmission(a)
	case reason.Denied:
		return w.judgeDenial(a)
	}
	if w.workFailed(a) {
		return ""
	}
	return "it failed, and nothing was broken"
}

// overlaps tells whether a fault was there in a window.
func (w *World) overlaps(of window, subject int, kinds ...kind) bool {
	return slices.ContainsFunc(w.faults, func(f *fault) bool {
		return slices.Contains(kinds, f.kind) && (f.subject == subject || f.subject == everybody) && !f.from.After(of.to) && !f.to.Before(of.from)
	})
}

// covered tells whether a fault was there all the time.
func (w *World) covered(of window, k kind, subject int) bool {
	return slices.ContainsFunc(w.faults, func(f *fault) bool {
		return f.kind == k && f.subject == subject && !f.from.After(of.from) && f.to.After(of.to)
	})
}

// apiFailed tells whether a replica could not reach the API server lately.
func (w *World) apiFailed(r *replica, moment time.Time) bool {
	return w.overlaps(window{from: moment.Add(-Bounds.Reconnect), to: moment}, r.id, apiDown, apiRefused, apiCut, apiDeaf)
}

// workFailed tells whether something was broken that a verification needs, since it began.
func (w *World) workFailed(a *asked) bool {
	since := window{from: a.begin.Add(-w.settings.timeout), to: a.end}
	return w.registryFailed(a) || w.overlaps(since, 0, pluginDown) || w.overlaps(since, a.replica.id, burst) || w.crowded(a)
}

func (w *World) registryFailed(a *asked) bool {
	since := window{from: a.begin.Add(-w.settings.timeout), to: a.end}
	return w.overlaps(since, a.repository, registryDown, registrySlow, registryLies, registryBehind)
}

// crowded tells whether others left this one no seat: so many as there are seats for all trust policies, where some are for a registry that
// fails, and keep theirs for long; or as many as one registry may have under a trust policy, with those that may wait. Equal ones share a
// seat under one revision of their trust, unless an event came in between.
func (w *World) crowded(a *asked) bool {
	var others []*asked
	equal := map[request]int{a.request: 1}
	for _, other := range w.asked {
		if other != a && other.replica == a.replica && !other.begin.After(a.end) && !other.end.Add(Bounds.Deadline).Before(a.begin) {
			others = append(others, other)
			equal[other.request]++
		}
	}
	since := a.begin.Add(-w.settings.timeout)
	apart := slices.ContainsFunc(w.told, func(t told) bool { return t.replica == a.replica && !t.at.After(a.end) && !t.end.Before(since) })
	n := len(others)
	if !apart {
		n = -1
		for r, count := range equal {
			n += min(count, w.revisions(&asked{request: r, replica: a.replica, begin: since, end: a.end}))
		}
	}
	const oneRegistry = maxVerifications*3/4*3/4 + maxQueued/2
	return n >= oneRegistry || n >= maxVerifications && slices.ContainsFunc(others, w.registryFailed)
}

// revisions is under how many revisions of its trust a request may have been worked on between its begin and end.
func (w *World) revisions(a *asked) int {
	since := w.trustSince(a.replica, a.begin)
	different := map[string]bool{}
	for _, policies := range w.policies.within(since, a.end) {
		s, ok := statementOf(policies, a.request)
		for _, stores := range w.stores.within(since, a.end) {
			var held []any
			for _, name := range s.stores {
				found, usable := storeOf(stores, name)
				held = append(held, found, usable)
			}
			different[fmt.Sprint(s, ok, held)] = true
		}
	}
	return len(different)
}

// trustSince is the moment since which a replica may have its trust from.
func (w *World) trustSince(r *replica, moment time.Time) time.Time {
	since := moment.Add(-Bounds.Trust)
	for moved := true; moved; {
		moved = false
		for _, f := range w.faults {
			earlier := f.from.Add(-Bounds.Trust)
			follows := f.kind <= apiRefused && (f.subject == r.id || f.subject == everybody)
			if follows && !since.After(f.to.Add(Bounds.Reconnect)) && since.After(earlier) {
				since, moved = earlier, true
			}
		}
	}
	for _, t := range w.told {
		known := t.taken && !t.again && !t.end.Add(Bounds.Event).After(moment)
		tells := t.replica == r || w.hears(r, t)
		reached := !w.overlaps(window{from: t.at.Add(-Bounds.Reconnect), to: t.end.Add(Bounds.Event)}, r.id, apiDown, apiRefused)
		if known && tells && reached && t.at.After(r.started.Add(Bounds.Reconnect)) && t.at.After(since) {
			since = t.at
		}
	}
	if since.Before(r.started) {
		return r.started
	}
	return since
}

// hears tells whether nothing keeps a replica from hearing by the epoch of an event that another one was told: not that only the watches
// of trust are deaf. An event that the epoch names already, as another replica took it before, changes nothing of it.
func (w *World) hears(r *replica, t told) bool {
	var before told
	for _, o := range w.told {
		if o != t && o.taken && !o.again && !o.at.After(t.end) && !o.end.Before(before.end) {
			before = o
		}
	}
	if before.event == t.event {
		return false
	}
	during := window{from: t.at.Add(-Bounds.Reconnect), to: t.end.Add(Bounds.Event)}
	return !w.overlaps(during, r.id, apiDown, apiRefused, apiLag, apiCut) && !slices.ContainsFunc(w.faults, func(f *fault) bool {
		return f.kind == apiDeaf && f.amount > 0 && f.subject == r.id && !f.from.After(during.to) && !f.to.Before(during.from)
	})
}

// behind is by how much a registry may have been behind lately.
func (w *World) behind(of window, repository int) (by time.Duration) {
	for _, f := range w.faults {
		if f.kind == registryBehind && f.subject == repository && !f.from.After(of.to) && !f.to.Before(of.from) {
			by = max(by, f.amount)
		}
	}
	return by
}

// digests are those that an image's reference may have stood for; "" for none. There are none where nobody could have asked.
func (w *World) digests(a *asked) []digest.Digest {
	if a.tag < 0 {
		return []digest.Digest{imageDigest(a.repository, a.image)}
	}
	since := a.begin.Add(-max(w.settings.keepTags+w.longer(a, w.settings.keepTags), w.settings.timeout))
	if w.settings.staleTags && w.overlaps(window{from: since, to: a.end}, a.repository, registryDown, registryLies, registrySlow) {
		since = a.begin.Add(-w.settings.keep - w.longer(a, w.settings.keep) - w.settings.timeout)
	}
	if !w.settings.staleTags && w.covered(window{from: since, to: a.end}, registryDown, a.repository) {
		return nil
	}
	of := window{from: since, to: a.end}
	return w.tags[a.repository][a.tag].within(since.Add(-w.behind(of, a.repository)), a.end)
}

// trustOf gives what the statement for an image may have been, with the signers that its stores trusted. ok is false for none.
func (w *World) trustOf(a *asked) (found []trusted) {
	since := w.trustSince(a.replica, a.begin)
	stores := w.stores.within(since, a.end)
	for _, policies := range w.policies.within(since, a.end) {
		s, ok := statementOf(policies, a.request)
		if !ok {
			found = append(found, trusted{})
			continue
		}
		for _, all := range stores {
			found = append(found, trustedBy(s, all))
		}
	}
	return found
}

// statementOf is the statement for an image; none where the trust policy cannot be used or has none for it.
func statementOf(policies map[string]policy, r request) (of statement, ok bool) {
	p, usable := usable(policies, func(p policy) (bool, bool) { return p.name == r.policy, !p.unreadable })
	if !usable {
		return statement{}, false
	}
	for _, s := range p.statements {
		if s.repository == r.repository || s.repository < 0 && !ok {
			of, ok = s, true
		}
	}
	return of, ok
}

// storeOf is the trust store of a name; none where it cannot be used.
func storeOf(stores map[string]store, name int) (store, bool) {
	return usable(stores, func(s store) (bool, bool) { return s.name == name, !s.unreadable })
}

// trusted is a statement, and whose signatures satisfy it. The zero value trusts nobody.
type trusted struct {
	level   string
	signers [signers]bool
}

func trustedBy(s statement, stores map[string]store) (t trusted) {
	t.level = s.level
	for _, name := range s.stores {
		held, ok := storeOf(stores, name)
		if !ok { // a statement with a store that cannot be used trusts nobody
			t.signers = [signers]bool{}
			break
		}
		for _, signer := range held.signers {
			t.signers[signer] = true
		}
	}
	for signer := range t.signers {
		if t.level == "audit" { // who signed is only logged
			t.signers[signer] = true
		}
		if s.signer >= 0 && s.signer != signer && t.level != "audit" {
			t.signers[signer] = false
		}
	}
	return t
}

// satisfies tells whether a signature may satisfy, and whether it must. Its content and presence are looked at within one
// window, revocation and the plugin within another. clocks are the replica's at the time.
func (w *World) satisfies(s *artifact, t trusted, there, checked window, clocks []time.Time) (may, must bool) {
	present := s.there.within(there.from, there.to)
	if s.garbage || s.target != s.subject || !t.signers[s.signer] || !slices.Contains(present, true) {
		return false, false
	}
	may, must = true, !slices.Contains(present, false)
	limit := func(holds func(time.Time) bool, moments []time.Time) {
		may = may && slices.ContainsFunc(moments, holds)
		must = must && !slices.ContainsFunc(moments, func(m time.Time) bool { return !holds(m) })
	}
	if s.plugin {
		// what is installed is part of the key, so that no older answer of a plugin counts
		asked := window{from: latest(checked.from, checked.now.Add(-pluginsEvery-w.settings.timeout)), to: checked.to}
		down := w.overlaps(asked, 0, pluginDown)
		states := w.plugin.within(asked.from, asked.to)
		refuses := func(p pluginState) bool { return p.refuses && t.level != "audit" }
		may = may && slices.ContainsFunc(states, func(p pluginState) bool { return !refuses(p) })
		must = must && !down && !slices.ContainsFunc(states, refuses)
	}
	if t.level == "strict" {
		limit(func(m time.Time) bool { return s.expiry.IsZero() || m.Before(s.expiry) }, clocks)
		revoked := w.revoked[s.signer].within(checked.from, checked.to)
		may = may && slices.Contains(revoked, false)
		must = must && !slices.Contains(revoked, true) && !w.overlaps(checked, 0, ocspDown)
	}
	return may, must
}

// signed says whether something must or may have a signature that satisfies.
func (w *World) signed(repository int, subject digest.Digest, t trusted, there, checked window, clocks []time.Time) (may, must bool) {
	for _, s := range w.artifactsOf(repository, subject) {
		if !s.attestation {
			one, certain := w.satisfies(s, t, there, checked, clocks)
			may, must = may || one, must || certain
		}
	}
	return may, must && !w.overlaps(there, repository, registryHides)
}

// verdict is what a cold verification of an image would say.
func (w *World) verdict(a *asked, of digest.Digest, t trusted, there, checked window, clocks []time.Time) possible {
	demand := demands[a.demand]
	switch {
	case t.level == "skip":
		return possible{admitted: demand == "", denied: demand != ""} // nobody is trusted under it
	case t.level == "" || of == "":
		return possible{denied: true}
	}
	may, must := w.signed(a.repository, of, t, there, checked, clocks)
	p := possible{admitted: may, denied: !must}
	if demand == "" {
		return p
	}
	attested := w.attested(a, of, t, there, checked, w.relied(a), clocks)
	return possible{admitted: p.admitted && attested.admitted, denied: p.denied || attested.denied}
}

// relied is the window in which a signature may have been found good that is kept: that is so for denials too, where an attestation
// that counts denies.
func (w *World) relied(a *asked) window {
	good := min(w.settings.keep+w.longer(a, w.settings.keep), w.ocspPeriod+a.replica.skew()) + w.settings.timeout
	since := a.begin.Add(-good)
	if w.shared == nil {
		since = latest(since, a.replica.started)
	}
	return window{since, a.end, a.begin}
}

// attested is what the attestations of an image say.
func (w *World) attested(a *asked, of digest.Digest, t trusted, there, checked, relied window, clocks []time.Time) (p possible) {
	type candidate struct {
		good, must bool
		made       int64
	}
	var candidates []candidate // those that may count
	undecided := false
	for _, found := range w.artifactsOf(a.repository, of) {
		present := found.there.within(there.from, there.to)
		if !found.attestation || !slices.Contains(present, true) {
			continue
		}
		_, must := w.signed(a.repository, found.digest, t, there, checked, clocks)
		if may, _ := w.signed(a.repository, found.digest, t, there, relied, clocks); may {
			c := candidate{found.severity <= maxSeverity, must && !slices.Contains(present, false), w.signedAt(a.repository, found.digest)}
			if demands[a.demand] == recent {
				maybe, surely := found.recent(clocks)
				c.good, c.must = maybe, c.must && surely
			}
			candidates = append(candidates, c)
		}
		undecided = undecided || slices.Contains(present, false) // it may be gone between being listed and being read
	}
	undecided = undecided || t.level == "strict" && w.overlaps(checked, 0, ocspDown)
	counts := func(is func(candidate) bool) bool { return slices.ContainsFunc(candidates, is) }
	certainlyGood := counts(func(c candidate) bool { return c.good && c.must })
	certainlyBad := counts(func(c candidate) bool { return !c.good && c.must })
	maybeBad := counts(func(c candidate) bool { return !c.good })
	switch demands[a.demand] {
	case "all":
		p.admitted, p.denied = counts(func(c candidate) bool { return c.good }) && !certainlyBad, maybeBad || !certainlyGood
	case "any", recent:
		p.admitted, p.denied = counts(func(c candidate) bool { return c.good }), !certainlyGood
	case "latest":
		p.admitted = counts(func(c candidate) bool {
			return c.good && !counts(func(later candidate) bool { return !later.good && later.must && later.made >= c.made })
		})
		p.denied = !certainlyGood || counts(func(c candidate) bool {
			return !c.good && !counts(func(later candidate) bool { return later.good && later.must && later.made > c.made })
		})
	}
	p.denied = p.denied || undecided
	return p
}

// recent tells whether an attestation may be recent by some of the clocks, and whether it is by all. Documents tell times in seconds.
func (a *artifact) recent(clocks []time.Time) (may, must bool) {
	must = true
	for _, clock := range clocks {
		age := clock.Sub(a.made)
		may, must = may || age <= maxAge+2*time.Second, must && age <= maxAge-2*time.Second
	}
	return may, must
}

// signedAt is the second in which an attestation was signed.
func (w *World) signedAt(repository int, attestation digest.Digest) int64 {
	for _, s := range w.artifactsOf(repository, attestation) {
		return s.made.Unix()
	}
	return 0
}

// skew is how wrong a replica's clock ever was.
func (r *replica) skew() (most time.Duration) {
	for _, change := range r.ahead.changes {
		most = max(most, change.value.Abs())
	}
	return most
}

// longer is for how much longer than it is kept something may count that another replica shared, whose clock was ahead. An honest
// server forgets it in time, so that only by little more than that can a clock be ahead whose entries count there.
func (w *World) longer(a *asked, kept time.Duration) time.Duration {
	if w.shared == nil {
		return 0
	}
	least, most, steady := a.replica.ahead.changes[0].value, a.replica.ahead.changes[0].value, true
	for _, r := range w.replicas {
		for i, change := range r.ahead.changes {
			if change.from.After(a.end) {
				break
			}
			steady = steady && i == 0
			most = max(most, change.value)
			if r == a.replica {
				least = min(least, change.value)
			}
		}
	}
	if steady && !w.overlaps(window{from: begin, to: a.end}, 0, sharedLies) {
		return min(most-least, kept+sharedcache.MaxSkew)
	}
	return most - least
}

// flushed is when an event last had a replica drop what it kept for a policy.
func (w *World) flushed(a *asked) (last time.Time) {
	for _, t := range w.told {
		if t.replica == a.replica && t.taken && !t.again && !t.end.After(a.begin) && (t.policy == everybody || t.policy == a.policy) && t.at.After(last) {
			last = t.at
		}
	}
	return last
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// moments are the times within a window at which something that takes a time may begin, so that each way is among them in which changes of
// an image, and of whether its registry hides signatures, come before, within and after it.
func (w *World) moments(a *asked, of window, takes time.Duration) []time.Time {
	all := []time.Time{of.from}
	add := func(change time.Time) {
		for _, from := range []time.Time{change, change.Add(-1), change.Add(-takes)} {
			if from.After(of.from) && !from.After(of.to) {
				all = append(all, from)
			}
		}
	}
	for _, f := range w.faults {
		if f.kind == registryHides && (f.subject == a.repository || f.subject == everybody) {
			add(f.from)
			add(f.to)
		}
	}
	for _, found := range w.artifacts {
		if found.repository != a.repository {
			continue
		}
		for _, change := range found.there.changes {
			add(change.from)
		}
	}
	return slices.CompactFunc(slices.SortedFunc(slices.Values(all), time.Time.Compare), time.Time.Equal)
}

// clocks are the times by a replica's clock at which a request that it works on may have had shared work done for another that came later:
// its own, that of its end, and those at which a signature expired in between.
func (w *World) clocks(a *asked) []time.Time {
	last := a.end.Add(a.replica.ahead.value(a.end))
	all := []time.Time{a.clock, last}
	for _, found := range w.artifacts {
		if found.expiry.After(a.clock) && found.expiry.Before(last) {
			all = append(all, found.expiry)
		}
	}
	return all
}

// judgeAdmission looks for a moment at which a verification could have begun whose outcome is this answer.
func (w *World) judgeAdmission(a *asked) string {
	kept := w.settings.keep + w.longer(a, w.settings.keep)
	oldest := a.begin.Add(-kept - w.settings.timeout)
	if w.shared == nil { // else others may have worked it out
		oldest = latest(latest(oldest, a.replica.started), w.flushed(a))
	}
	checked := w.relied(a)
	behind := w.behind(window{from: oldest, to: a.end}, a.repository)
	takes := w.settings.timeout + behind
	moments, clocks := w.moments(a, window{from: oldest.Add(-behind), to: a.end}, takes), w.clocks(a)
	for _, t := range w.trustOf(a) {
		if t.level == "skip" && demands[a.demand] == "" { // nor here
			return ""
		}
		for _, of := range w.digests(a) {
			if string(of) != a.result.Digest {
				continue
			}
			for _, from := range moments {
				there := window{from: from, to: from.Add(takes)}
				if there.to.After(a.end) {
					there.to = a.end
				}
				for _, clock := range clocks {
					if w.verdict(a, of, t, there, checked, []time.Time{clock}).admitted {
						return ""
					}
				}
			}
		}
	}
	return fmt.Sprintf("it was admitted as %s, and nothing justifies that since %s", a.result.Digest, oldest.Sub(begin))
}

// judgeDenial looks for a moment at which it was right.
func (w *World) judgeDenial(a *asked) string {
	kept := min(Bounds.Denial, w.settings.keep)
	since := a.begin.Add(-max(kept+w.longer(a, kept), w.settings.timeout))
	workers := w.replicas // that may have worked it out
	if w.shared == nil {
		since, workers = latest(since, a.replica.started), []*replica{a.replica}
	}
	of := window{since.Add(-w.behind(window{from: since, to: a.end}, a.repository)), a.end, a.begin}
	clocks := []time.Time{a.clock}
	for _, worker := range workers {
		for _, ahead := range worker.ahead.within(since, a.end) {
			clocks = append(clocks, since.Add(ahead), a.end.Add(ahead))
		}
	}
	for _, t := range w.trustOf(a) {
		if t.level == "" { // for which no registry is asked
			return ""
		}
		for _, digest := range w.digests(a) {
			if w.verdict(a, digest, t, of, of, clocks).denied {
				return ""
			}
		}
	}
	return fmt.Sprintf("it was denied, and nothing justifies that since %s", of.from.Sub(begin))
}
