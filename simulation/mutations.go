package simulation

import (
	"slices"
	"strings"
)

// Mutation is an error that is put into the service to see that the simulation finds it: a text of a file that is replaced, and
// more of them where one alone changes nothing, since another guard holds.
type Mutation struct {
	Name, File string
	Old, New   string
	More       []string // further old and new texts, in turn
}

// edits are the old texts, each with the new one.
func (m Mutation) edits() (all [][2]string) {
	for pair := range slices.Chunk(append([]string{m.Old, m.New}, m.More...), 2) {
		all = append(all, [2]string(pair))
	}
	return all
}

// test is the test that is to find it.
func (m Mutation) test() string {
	if strings.HasPrefix(m.File, "shell/fair/") {
		return "TestOneRegistryLeavesSeatsToAnother"
	}
	for _, part := range []string{"shell/certmanager/", "core/certificates/", "shell/kube/serving.go"} {
		if strings.HasPrefix(m.File, part) {
			return "TestCertificates"
		}
	}
	return "TestSimulation"
}

// Mutations are errors of the kinds that a fleet has. Each was a plausible line to write.
var Mutations = []Mutation{
	{
		"the revision of trust is left out of the key", "core/verification/task.go",
		"Revision: t.Revision, ", "", nil,
	}, {
		"work is shared across trust policies", "core/verification/task.go",
		"Policy: t.Policy, Revision: t.Revision, ", "", nil,
	}, {
		"the plugins are left out of the key", "core/verification/task.go",
		", Plugins: t.Plugins", "", nil,
	}, {
		"a denial is kept as long as an admission", "core/verification/lookup.go",
		"For: min(keepDenials, l.Keep)", "For: l.Keep", nil,
	}, {
		"a partial list is trusted", "shell/verify/lookup.go",
		`Partial: truncated && lookup.Type == ""`, "Partial: false", nil,
	}, {
		"a tag is kept past its time", "core/verification/lookup.go",
		"Freshness{For: task.Limits.KeepTags}", "Freshness{For: task.Limits.Keep}", nil,
	}, {
		"one attestation that meets its conditions makes up for others", "core/verification/check.go",
		"case finding == nil && demand.Select == SelectAny:", "case finding == nil:", nil,
	}, {
		"a transient failure is kept", "core/verification/lookup.go",
		"case !definitive:\n\t\treturn Freshness{}", "case !definitive:\n\t\treturn Freshness{For: l.Keep}", nil,
	}, {
		"an answer that was worked out before an event is kept after it", "shell/cache/cache.go",
		"if flushes == c.flushes {", "if flushes <= c.flushes {", nil,
	}, {
		"work that began before an event is shared after it", "shell/cache/cache.go",
		"c.flights.Forget(chosen)", "", nil,
	}, {
		"an event drops nothing", "function/events.go",
		"return key.Trust.Policy != \"\" && change.Affects(snapshot, key.Trust.Policy)", "return key.Trust.Policy == \"none\" && change.Affects(snapshot, key.Trust.Policy)", nil,
	}, {
		"an event has nothing listed anew", "function/events.go",
		"\te.renew()\n", "", nil,
	}, {
		"the epoch is ignored", "shell/kube/epoch.go",
		"if !first {", "if first {", nil,
	}, {
		"a relist keeps what is gone", "shell/kubeclient/store.go",
		"same := s.items != nil", "for name, item := range s.items {\n\t\t\tif _, known := items[name]; !known {\n\t\t\t\titems[name] = item\n\t\t\t}\n\t\t}\n\t\tsame := s.items != nil", nil,
	}, {
		"a relist after the first is ignored", "shell/kubeclient/store.go",
		"s.items = items\n", "if s.items == nil {\n\t\t\ts.items = items\n\t\t}\n", nil,
	}, {
		"a deletion is ignored", "shell/kubeclient/store.go",
		"delete(s.items, name)\n", "_ = name\n", nil,
	}, {
		"the time of an OCSP answer is ignored", "core/verification/fact.go",
		"return earlier(s.ValidUntil, s.FreshUntil)", "return s.ValidUntil", nil,
	}, {
		"the last digest of a tag stands in though that is off", "shell/verify/lookup.go",
		"if c.options.StaleTags {", "if c.options.Keep > 0 {", nil,
	}, {
		"the first of two resources that claim a name counts", "shell/trust/compile.go",
		"policy := trust.Policy{Name: name}\n\tswitch err := claimants[0].validate(); {\n\tcase len(claimants) > 1:", "policy := trust.Policy{Name: name}\n\tswitch err := claimants[0].validate(); {\n\tcase len(claimants) > 2:", nil,
	}, {
		"any old list will do", "shell/kubeclient/watch.go",
		`if options.ResourceVersion == "0" {`, `if options.ResourceVersion == "00" {`, nil,
	}, {
		"all of a trust policy's few seats are for one registry", "shell/fair/queue.go",
		"max(1, seats*3/4)", "max(1, seats-seats/4)", nil,
	}, {
		"a condition that reads the clock keeps its answer", "shell/verify/lookup.go",
		"if found.evidence == nil {\n\t\treturn found.fact, true", "if found.evidence == nil || len(found.evidence) > 0 {\n\t\treturn found.fact, true", nil,
	}, {
		"an entry of another replica counts from when it is read", "core/sharedcache/entry.go",
		"until = bound(fresh, e.From)\n\tif e.Until.Before(until) {\n\t\tuntil = e.Until\n\t}", "until = bound(fresh, now)", nil,
	}, {
		"the time of an OCSP answer does not travel with an entry", "core/sharedcache/entry.go",
		"if !fresh.Until.IsZero() && fresh.Until.Before(until) {", "if fresh.Until.After(until) {", nil,
	}, {
		"the revision of trust is left out of what replicas share", "core/sharedcache/keyring.go",
		"if !Sharable(lookup.Kind) {\n\t\treturn nil\n\t}", "if !Sharable(lookup.Kind) {\n\t\treturn nil\n\t}\n\tlookup.Trust.Revision = \"\"", nil,
	}, {
		"the plugins are left out of what replicas share", "core/sharedcache/keyring.go",
		"if !Sharable(lookup.Kind) {\n\t\treturn nil\n\t}", "if !Sharable(lookup.Kind) {\n\t\treturn nil\n\t}\n\tlookup.Trust.Plugins = \"\"", nil,
	}, {
		"an entry opens in any place", "core/sharedcache/slot.go",
		"mac(k.seals, purpose, []byte(name))", "mac(k.seals, purpose, nil)",
		[]string{"append(bytes.Clone(header[:boundsSize]), s.Name...)", "bytes.Clone(header[:boundsSize])"},
	}, {
		"an entry that is over counts, if the server shows it", "core/sharedcache/entry.go",
		"return until, now.Before(until)", "return now.Add(fresh.For), true", nil,
	}, {
		"another replica is waited for without end", "shell/sharedcache/cache.go",
		"patience := min(max(Patience, 2*work), MaxPatience)", "patience := max(time.Hour, work)",
		[]string{"patience = min(patience, time.Until(deadline)/2)", "patience = max(patience, time.Until(deadline))"},
	}, {
		"a new serving certificate is not taken over", "shell/kube/serving.go",
		"take(pair.certificate, pair.key)\n", "take(pair.certificate, pair.key)\n\t\t\ttake = func(_, _ []byte) {}\n", nil,
	}, {
		"the loss of a lease is ignored", "shell/certmanager/leader.go",
		"t.running.Go(func() { t.task(ctx) })", "t.running.Go(func() { t.task(context.WithoutCancel(ctx)) })", nil,
	}, {
		"a lease that another holds is given up", "shell/certmanager/leader.go",
		"if err != nil || record.HolderIdentity != lock.Identity() {", "if err != nil {", nil,
	}, {
		"nobody waits until clients know a new CA", "core/certificates/next.go",
		"return known(s, s.Authority.Certificate, now, wait) ||", "return known(s, s.Authority.Certificate, now, wait*0) ||", nil,
	},
}
