package simulation

import "strings"

// Mutation is an error that is put into the service to see that the simulation finds it: a text of a file that is replaced.
type Mutation struct {
	Name, File string
	Old, New   string
}

// test is the test that is to find it.
func (m Mutation) test() string {
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
		"Revision: t.Revision, ", "",
	}, {
		"work is shared across trust policies", "core/verification/task.go",
		"Policy: t.Policy, Revision: t.Revision, ", "",
	}, {
		"the plugins are left out of the key", "core/verification/task.go",
		", Plugins: t.Plugins", "",
	}, {
		"a denial is kept as long as an admission", "core/verification/lookup.go",
		"For: min(keepDenials, l.Keep)", "For: l.Keep",
	}, {
		"a partial list is trusted", "shell/verify/lookup.go",
		`Partial: truncated && lookup.Type == ""`, "Partial: false",
	}, {
		"a tag is kept past its time", "core/verification/lookup.go",
		"Freshness{For: task.Limits.KeepTags}", "Freshness{For: task.Limits.Keep}",
	}, {
		"a transient failure is kept", "core/verification/lookup.go",
		"case !definitive:\n\t\treturn Freshness{}", "case !definitive:\n\t\treturn Freshness{For: l.Keep}",
	}, {
		"an answer that was worked out before an event is kept after it", "shell/cache/cache.go",
		"if flushes == c.flushes {", "if flushes <= c.flushes {",
	}, {
		"work that began before an event is shared after it", "shell/cache/cache.go",
		"c.flights.Forget(chosen)", "",
	}, {
		"an event drops nothing", "function/events.go",
		"return key.Trust.Policy != \"\" && change.Affects(snapshot, key.Trust.Policy)", "return key.Trust.Policy == \"none\" && change.Affects(snapshot, key.Trust.Policy)",
	}, {
		"an event has nothing listed anew", "function/events.go",
		"\te.renew()\n", "",
	}, {
		"the epoch is ignored", "shell/kube/epoch.go",
		"if !first {", "if first {",
	}, {
		"a relist keeps what is gone", "shell/kubeclient/store.go",
		"same := s.items != nil", "for name, item := range s.items {\n\t\t\tif _, known := items[name]; !known {\n\t\t\t\titems[name] = item\n\t\t\t}\n\t\t}\n\t\tsame := s.items != nil",
	}, {
		"a relist after the first is ignored", "shell/kubeclient/store.go",
		"s.items = items\n", "if s.items == nil {\n\t\t\ts.items = items\n\t\t}\n",
	}, {
		"a deletion is ignored", "shell/kubeclient/store.go",
		"delete(s.items, name)\n", "_ = name\n",
	}, {
		"the time of an OCSP answer is ignored", "core/verification/fact.go",
		"return earlier(s.ValidUntil, s.FreshUntil)", "return s.ValidUntil",
	}, {
		"the last digest of a tag stands in though that is off", "shell/verify/lookup.go",
		"if c.options.StaleTags {", "if c.options.Keep > 0 {",
	}, {
		"the first of two resources that claim a name counts", "shell/trust/compile.go",
		"policy := trust.Policy{Name: name}\n\tswitch err := claimants[0].validate(); {\n\tcase len(claimants) > 1:", "policy := trust.Policy{Name: name}\n\tswitch err := claimants[0].validate(); {\n\tcase len(claimants) > 2:",
	}, {
		"any old list will do", "shell/kubeclient/watch.go",
		`if options.ResourceVersion == "0" {`, `if options.ResourceVersion == "00" {`,
	}, {
		"all of a trust policy's few seats are for one registry", "shell/fair/queue.go",
		"max(1, seats*3/4)", "max(1, seats-seats/4)",
	}, {
		"a new serving certificate is not taken over", "shell/kube/serving.go",
		"take(pair.certificate, pair.key)\n", "take(pair.certificate, pair.key)\n\t\t\ttake = func(_, _ []byte) {}\n",
	}, {
		"the loss of a lease is ignored", "shell/certmanager/leader.go",
		"t.running.Go(func() { t.task(ctx) })", "t.running.Go(func() { t.task(context.WithoutCancel(ctx)) })",
	}, {
		"a lease that another holds is given up", "shell/certmanager/leader.go",
		"if err != nil || record.HolderIdentity != lock.Identity() {", "if err != nil {",
	}, {
		"nobody waits until clients know a new CA", "core/certificates/next.go",
		"return known(s, s.Authority.Certificate, now, wait) ||", "return known(s, s.Authority.Certificate, now, wait*0) ||",
	},
}
