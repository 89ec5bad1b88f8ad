package auditor_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

const image = "reg.example/acme/app:v1"

func TestAnImageIsVerifiedOnceForManyPods(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	set := w.owner("team-a", ref("apps/v1", "ReplicaSet", "web-1"), w.owner("team-a", ref("apps/v1", "Deployment", "web")))
	for i := range 50 {
		w.pod("team-a", fmt.Sprint("web-1-", i), image, set)
	}
	w.pod("team-a", "lone", image)
	w.work()
	if got := w.counted(); got != "new 1" {
		t.Errorf("verified %s", got)
	}
	report := w.report("team-a", "uid-Deployment-web")
	if len(w.reports) != 2 || report.Summary != (auditor.Summary{Pass: 1}) || report.Results[0].Properties["pods"] != "50" {
		t.Errorf("%d reports: %+v", len(w.reports), report)
	}
	w.forget()
	w.pass(interval - time.Minute)
	w.forget()
	w.pass(interval)
	if got := w.counted(); got != "age 1" {
		t.Errorf("in each interval, verified %s", got)
	}
}

// TestOwnersAreTheTopmostThatExist in the pod's namespace, whatever the pod says.
func TestOwnersAreTheTopmostThatExist(t *testing.T) {
	rollout := auditor.Ref{APIVersion: "argoproj.io/v1alpha1", Kind: "Rollout", Name: "canary", UID: "uid-canary"}
	for sentence, tt := range map[string]struct {
		controller  auditor.Ref
		at, settled string // UID of the workload at once, "" for none yet, and after a while
	}{
		"none":                               {auditor.Ref{}, "uid-team-a-web", "uid-team-a-web"},
		"a ReplicaSet of a Deployment":       {ref("apps/v1", "ReplicaSet", "web-1"), "uid-Deployment-web", "uid-Deployment-web"},
		"a Job of a CronJob":                 {ref("batch/v1", "Job", "nightly-1"), "uid-CronJob-nightly", "uid-CronJob-nightly"},
		"a StatefulSet":                      {ref("apps/v1", "StatefulSet", "db"), "uid-StatefulSet-db", "uid-StatefulSet-db"},
		"another version of the API":         {auditor.Ref{APIVersion: "apps/v1beta2", Kind: "StatefulSet", Name: "db", UID: "uid-StatefulSet-db"}, "uid-StatefulSet-db", "uid-StatefulSet-db"},
		"a ReplicaSet of a kind unheard of":  {ref("apps/v1", "ReplicaSet", "canary-1"), "uid-ReplicaSet-canary-1", "uid-ReplicaSet-canary-1"},
		"a node":                             {ref("v1", "Node", "n1"), "uid-team-a-web", "uid-team-a-web"},
		"one that does not exist":            {ref("apps/v1", "StatefulSet", "made-up"), "", "uid-team-a-web"},
		"one whose owner does not exist":     {ref("apps/v1", "ReplicaSet", "orphan"), "", "uid-ReplicaSet-orphan"},
		"another namespace's":                {ref("apps/v1", "Deployment", "victim"), "uid-team-a-web", "uid-team-a-web"},
		"the UID of one and the name of two": {auditor.Ref{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "other", UID: "uid-StatefulSet-db"}, "uid-team-a-web", "uid-team-a-web"},
		"the UID of one and another kind":    {auditor.Ref{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "db", UID: "uid-StatefulSet-db"}, "uid-team-a-web", "uid-team-a-web"},
		"one that owns itself":               {ref("batch/v1", "Job", "self"), "uid-Job-self", "uid-Job-self"},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t, auditor.Options{})
			w.start()
			w.owner("team-a", ref("apps/v1", "ReplicaSet", "web-1"), w.owner("team-a", ref("apps/v1", "Deployment", "web")))
			w.owner("team-a", ref("batch/v1", "Job", "nightly-1"), w.owner("team-a", ref("batch/v1", "CronJob", "nightly")))
			w.owner("team-a", ref("apps/v1", "StatefulSet", "db"))
			w.owner("team-a", ref("apps/v1", "ReplicaSet", "canary-1"), rollout)
			w.owner("team-a", ref("apps/v1", "ReplicaSet", "orphan"), ref("apps/v1", "Deployment", "gone"))
			w.owner("team-b", ref("apps/v1", "Deployment", "victim"))
			w.owner("team-a", ref("batch/v1", "Job", "self"), ref("batch/v1", "Job", "self"))
			w.pod("team-a", "web", image, tt.controller)
			w.work()
			if tt.at == "" && len(w.reports) > 0 || tt.at != "" && w.report("team-a", tt.at).Scope.UID != tt.at {
				t.Errorf("at once, the reports are %+v", w.reports)
			}
			w.pass(11 * time.Second)
			report := w.report("team-a", tt.settled)
			if len(w.reports) != 1 || report.Metadata.OwnerReferences[0].UID != tt.settled {
				t.Errorf("the reports are %+v", w.reports)
			}
		})
	}
}

func TestAnOwnerMayComeAfterItsPod(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	w.pod("team-a", "web-1-a", image, ref("apps/v1", "ReplicaSet", "web-1"))
	w.pass(5 * time.Second)
	w.owner("team-a", ref("apps/v1", "ReplicaSet", "web-1"), ref("apps/v1", "Deployment", "web"))
	w.pass(2 * time.Second)
	w.owner("team-a", ref("apps/v1", "Deployment", "web"))
	w.work()
	w.report("team-a", "uid-Deployment-web")
	if w.versions != 1 {
		t.Errorf("%d reports were written", w.versions)
	}
}

// TestAChangeOfTrustVerifiesWhatItAffects and nothing else.
func TestAChangeOfTrustVerifiesWhatItAffects(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	for i := range 500 {
		w.pod(fmt.Sprint("team-", i%10), fmt.Sprint("web-", i), fmt.Sprintf("reg.example/acme/app-%d:v1", i))
	}
	w.pass(2 * time.Second)
	if took := w.state.Changes(); len(took) > 0 {
		t.Errorf("without a change, changes took %v", took)
	}
	w.forget()
	w.verdict = func(c audit.Check) audit.Verdict { return coded(reason.SignatureUntrusted) }
	w.revision["team-3"] = "withdrawn"
	w.trust()
	w.pass(3 * time.Second)
	if got := w.counted(); got != "trust 50" {
		t.Errorf("verified %s", got)
	}
	if len(w.events) != 50 || !w.events[0].Warning || w.report("team-3", "uid-team-3-web-3").Summary.Fail != 1 || w.report("team-4", "uid-team-4-web-4").Summary.Pass != 1 {
		t.Errorf("%d Events, report %+v", len(w.events), w.report("team-3", "uid-team-3-web-3"))
	}
	if took := w.state.Changes(); len(took) != 1 || took[0] > time.Second {
		t.Errorf("changes took %v", took)
	}
	w.forget()
	w.revision["team-3"] = "none"
	w.trust()
	w.pass(2 * time.Second)
	if got := w.counted(); got != "" || w.report("team-3", "uid-team-3-web-3").Results[0].Properties["code"] != "TrustPolicyNotFound" {
		t.Errorf("what needs no registry is verified: %s", got)
	}
	if len(w.events) > 0 {
		t.Errorf("the verdict is the same, and there are %d Events", len(w.events))
	}
}

func TestAVerdictUnderAnOlderTrustIsMadeAgain(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	w.pod("team-a", "web", image)
	task, _ := w.state.Next(w.now, w.ready)
	w.revision["team-a"] = "withdrawn"
	w.trust()
	w.state.Verified(task, good(), w.now)
	w.verdict = func(audit.Check) audit.Verdict { return coded(reason.SignatureUntrusted) }
	w.pass(2 * time.Second)
	if got := w.counted(); got != "trust 1" || w.report("team-a", "uid-team-a-web").Summary.Fail != 1 {
		t.Errorf("verified %s, report %+v", got, w.report("team-a", "uid-team-a-web"))
	}
}

// TestNamespacesTakeTurns: one with ten thousand images holds up neither the verdicts nor the reports of another.
func TestNamespacesTakeTurns(t *testing.T) {
	w := newWorld(t, auditor.Options{MaxUses: 5000})
	w.start()
	for i := range 10_000 {
		w.pod("greedy", fmt.Sprint("web-", i), fmt.Sprintf("reg.example/greedy/app-%d:v1", i))
	}
	w.pod("modest", "web", image)
	for turn := 1; ; turn++ {
		task, _ := w.state.Next(w.now, w.ready)
		w.state.Verified(task, good(), w.now)
		if task.Image == image {
			break
		}
		if turn > 2 {
			t.Fatal("it is not the other's turn")
		}
	}
	for range 500 {
		task, _ := w.state.Next(w.now, w.ready)
		w.state.Verified(task, good(), w.now)
	}
	for turn := 1; ; turn++ {
		write, _ := w.state.NextWrite(w.now)
		w.write(write)
		if write.Namespace == "modest" {
			break
		}
		if turn > 2 {
			t.Fatal("it is not the other's turn to write")
		}
	}
	if sizes := w.state.Sizes(); sizes.LeftOut != 9000 || sizes.Images != 1001 {
		t.Errorf("sizes %+v", sizes)
	}
	for i := range 100 {
		w.state.PodGone("greedy", fmt.Sprint("web-", i), w.now)
	}
	w.state.Settle(w.now)
	if sizes := w.state.Sizes(); sizes.LeftOut != 8900 || sizes.Images != 1001 {
		t.Errorf("with room again, sizes %+v", sizes)
	}
}

// TestRegistriesAndNamespacesHaveSeats: a registry that stalls leaves seats to others.
func TestRegistriesAndNamespacesHaveSeats(t *testing.T) {
	w := newWorld(t, auditor.Options{MaxOfRegistry: 2, MaxOfOne: 3})
	w.start()
	for i := range 10 {
		w.pod("team-a", fmt.Sprint("slow-", i), fmt.Sprintf("slow.example/app-%d:v1", i))
		w.pod("team-a", fmt.Sprint("fast-", i), fmt.Sprintf("fast.example/app-%d:v1", i))
		w.pod("team-b", fmt.Sprint("fast-", i), fmt.Sprintf("other.example/app-%d:v1", i))
	}
	registries := map[string]int{}
	var tasks []*auditor.Task
	for task, _ := w.state.Next(w.now, w.ready); task != nil; task, _ = w.state.Next(w.now, w.ready) {
		registries[task.Registry]++
		tasks = append(tasks, task)
	}
	if len(tasks) != 5 || registries["other.example"] != 2 || registries["slow.example"] > 2 {
		t.Errorf("%d at once, of %v", len(tasks), registries)
	}
	for _, task := range tasks {
		w.state.Verified(task, good(), w.now)
	}
	w.work()
	if got := w.counted(); got != "new 25" {
		t.Errorf("verified %s", got)
	}
}

func TestARegistryThatIsNotReadyIsLeftAlone(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	w.ready = func(registry string) time.Duration {
		return map[string]time.Duration{"busy.example": time.Minute}[registry]
	}
	w.pod("team-a", "busy", "busy.example/app:v1")
	w.pod("team-a", "web", image)
	w.work()
	if got := w.counted(); got != "new 1" {
		t.Errorf("verified %s", got)
	}
	if _, wait := w.state.Next(w.now, w.ready); wait != time.Minute {
		t.Errorf("it waits for %s", wait)
	}
}

// TestTrustThatFlapsLeavesTurns to what it does not affect.
func TestTrustThatFlapsLeavesTurns(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	for i := range 20 {
		w.pod("flaps", fmt.Sprint("web-", i), fmt.Sprintf("reg.example/acme/app-%d:v1", i))
	}
	w.work()
	for i := range 20 {
		w.pod("calm", fmt.Sprint("web-", i), fmt.Sprintf("reg.example/acme/app-%d:v1", i))
	}
	w.forget()
	for i := range 40 {
		w.revision["flaps"] = fmt.Sprint(i)
		w.trust()
		task, _ := w.state.Next(w.now, w.ready)
		w.verified[task.Cause] = append(w.verified[task.Cause], task.Image)
		w.state.Verified(task, good(), w.now)
	}
	if got := w.counted(); got != "trust 30 new 10" {
		t.Errorf("verified %s", got)
	}
}

// TestReportsGoWithWhatTheyAreAbout.
func TestReportsGoWithWhatTheyAreAbout(t *testing.T) {
	web := auditor.Object{Ref: ref("apps/v1", "StatefulSet", "web"), Namespace: "team-a"}
	for sentence, change := range map[string]func(*world){
		"the pod is deleted":       func(w *world) { w.state.PodGone("team-a", "web-0", w.now) },
		"the workload is deleted":  func(w *world) { w.state.ObjectGone(web.UID, w.now) },
		"a list has no pods":       func(w *world) { w.state.Pods(nil, w.now) },
		"the namespace ends":       func(w *world) { w.state.Namespace("team-a", true, w.now) },
		"the namespace is deleted": func(w *world) { w.state.NamespaceGone("team-a", w.now) },
		"no trust policy applies": func(w *world) {
			w.state.Trust(auditor.Trust{Checks: func(audit.Use) []audit.Check { return nil }, Findings: func([]audit.Use, audit.Verdicts) []audit.Finding { return nil }}, w.now)
		},
		"a pod of its name is another": func(w *world) {
			pod := podOf("team-a", "web-0", image)
			pod.UID = "another"
			w.state.Pod(pod, w.now)
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t, auditor.Options{})
			w.start()
			w.state.Namespace("team-a", false, w.now)
			w.state.Object(web, w.now)
			w.pod("team-a", "web-0", image, web.Ref)
			w.pass(2 * time.Second)
			w.report("team-a", web.UID)
			change(w)
			w.pass(2 * time.Second)
			if _, exists := w.reports["team-a/notation-"+web.UID]; exists {
				t.Error("the report is still there")
			}
			if len(w.events) > 0 {
				t.Errorf("Events %+v", w.events)
			}
		})
	}
}

func TestReportsOfNothingAreDeletedByTheNextLeader(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	w.pod("team-a", "web", image)
	w.work()
	next := w.again()
	next.trust()
	next.pod("team-b", "web", image)
	next.work()
	if next.counted() != "new 1" || next.versions != w.versions {
		t.Fatalf("verified %s, and %d reports are written before those that exist are known", next.counted(), next.versions-w.versions)
	}
	next.state.PodGone("team-b", "web", next.now)
	next.start()
	next.work()
	if len(next.reports) > 0 {
		t.Errorf("reports %+v", next.reports)
	}
}

// TestALeaderGoesOnFromTheReports of the one before: nothing is said twice, and what changed meanwhile goes first.
func TestALeaderGoesOnFromTheReports(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	see := func(w *world) {
		for i := range 30 {
			w.pod(fmt.Sprint("team-", i%3), fmt.Sprint("web-", i), fmt.Sprintf("reg.example/acme/app-%d:v1", i))
		}
	}
	see(w)
	w.work()
	written := w.versions
	next := w.again()
	see(next)
	next.start()
	next.pass(time.Minute)
	if next.versions != written || len(next.events) > 0 || next.counted() != "new 30" {
		t.Errorf("%d reports are written, %d Events recorded, verified %s", next.versions-written, len(next.events), next.counted())
	}
	w.revision["team-1"] = "withdrawn"
	w.verdict = func(c audit.Check) audit.Verdict {
		if strings.HasSuffix(c.TrustPolicy, "team-1") {
			return coded(reason.SignatureUntrusted)
		}
		return good()
	}
	last := w.again()
	see(last)
	last.start()
	for range 10 {
		task, _ := last.state.Next(last.now, last.ready)
		last.verified[task.Cause] = append(last.verified[task.Cause], task.Image)
		last.state.Verified(task, last.verdict(task.Check), last.now)
	}
	if got := last.counted(); got != "trust 8 new 2" {
		t.Errorf("first are verified %s", got)
	}
	last.pass(time.Minute)
	if last.versions != written+10 || len(last.events) != 10 {
		t.Errorf("%d reports are written, %d Events recorded", last.versions-written, len(last.events))
	}
}

// TestAnEventIsRecordedOnceByTwoLeaders: the one that recorded it did not come to write the report.
func TestAnEventIsRecordedOnceByTwoLeaders(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	w.pod("team-a", "web", image)
	w.work()
	w.pass(2 * time.Second)
	w.verdict = func(audit.Check) audit.Verdict { return coded(reason.NoSignature) }
	w.outcome = func(*auditor.Write) auditor.Outcome { return auditor.Failed }
	w.pass(2 * interval)
	if len(w.events) != 1 || w.report("team-a", "uid-team-a-web").Summary.Pass != 1 {
		t.Fatalf("Events %+v", w.events)
	}
	next := w.again()
	next.pod("team-a", "web", image)
	next.start()
	next.pass(time.Second)
	if len(next.events) != 0 || next.report("team-a", "uid-team-a-web").Summary.Fail != 1 {
		t.Errorf("Events %+v, report %+v", next.events, next.report("team-a", "uid-team-a-web"))
	}
	next.verdict = func(audit.Check) audit.Verdict { return good() }
	next.pass(interval)
	if len(next.events) != 1 || next.events[0].Warning || next.events[0].Reason != "ImageVerified" {
		t.Errorf("Events %+v", next.events)
	}
}

// TestAVerdictOutlivesAFailureOfItsRegistry for some time, but no change of trust.
func TestAVerdictOutlivesAFailureOfItsRegistry(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	w.pod("team-a", "web", image)
	w.work()
	w.verdict = func(audit.Check) audit.Verdict { return coded(reason.RegistryUnavailable) }
	w.pass(2*interval + interval/2)
	if got := w.report("team-a", "uid-team-a-web").Summary; got.Pass != 1 {
		t.Errorf("while the registry fails: %+v", got)
	}
	if n := len(w.verified[auditor.ForRetry]); n < 3 || n > 20 {
		t.Errorf("it is tried again %d times", n)
	}
	w.pass(2 * interval)
	if got := w.report("team-a", "uid-team-a-web").Summary; got.Error != 1 {
		t.Errorf("after that: %+v", got)
	}
	w.verdict = func(audit.Check) audit.Verdict { return good() }
	w.pass(interval)
	w.verdict = func(audit.Check) audit.Verdict { return coded(reason.RegistryUnavailable) }
	w.revision["team-a"] = "withdrawn"
	w.trust()
	w.pass(2 * time.Second)
	if got := w.report("team-a", "uid-team-a-web").Summary; got.Error != 1 {
		t.Errorf("after a change of trust: %+v", got)
	}
}

func TestAnImageIsVerifiedWhenItsSignatureEnds(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	ends := w.now.Add(10 * time.Minute)
	w.verdict = func(audit.Check) audit.Verdict {
		verdict := good()
		if w.now.After(ends) {
			return coded(reason.SignatureExpired)
		}
		verdict.Ends = make([]audit.End, 1)
		verdict.Ends[0].At = ends
		return verdict
	}
	w.pod("team-a", "web", image)
	w.pass(11 * time.Minute)
	if got := w.report("team-a", "uid-team-a-web").Summary; got.Fail != 1 {
		t.Errorf("report %+v", got)
	}
}

// TestAReportThatIsChangedIsMended, and one of which the API server drops a field is written once.
func TestAReportThatIsChangedIsMended(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.store = func(report auditor.Report) auditor.Report {
		report.Source = ""
		return report
	}
	w.start()
	w.pod("team-a", "web", image)
	w.pass(time.Minute)
	if w.versions != 1 {
		t.Fatalf("it is written %d times", w.versions)
	}
	forged := w.report("team-a", "uid-team-a-web")
	forged.Results = slices.Clone(forged.Results)
	forged.Results[0].Message = "all is well"
	forged.Metadata.ResourceVersion = "forged"
	w.reports["team-a/notation-uid-team-a-web"] = forged
	w.state.Report(forged)
	w.pass(time.Second)
	if w.versions != 2 || w.report("team-a", "uid-team-a-web").Results[0].Message == "all is well" {
		t.Errorf("it is written %d times", w.versions)
	}
	delete(w.reports, "team-a/notation-uid-team-a-web")
	w.state.ReportGone("team-a", "notation-uid-team-a-web")
	w.pass(2 * time.Second)
	w.report("team-a", "uid-team-a-web")
	next := w.again()
	next.store = w.store
	next.pod("team-a", "web", image)
	next.start()
	next.pass(time.Minute)
	if next.versions > w.versions+1 {
		t.Errorf("another leader writes it %d times", next.versions-w.versions)
	}
}

func TestAWriteThatFailsIsTriedAgainEverLater(t *testing.T) {
	for _, outcome := range []auditor.Outcome{auditor.Failed, auditor.Conflict} {
		w := newWorld(t, auditor.Options{})
		w.start()
		tries := 0
		w.outcome = func(*auditor.Write) auditor.Outcome {
			tries++
			return outcome
		}
		w.pod("team-a", "web", image)
		w.pass(30 * time.Minute)
		if tries < 10 || tries > 30 {
			t.Errorf("outcome %d: it is tried %d times in half an hour", outcome, tries)
		}
		w.outcome = nil
		w.pass(3 * time.Minute)
		w.report("team-a", "uid-team-a-web")
	}
}

// TestAReportWaitsForItsImages, and a new one not for ever.
func TestAReportWaitsForItsImages(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	w.ready = func(registry string) time.Duration {
		return map[string]time.Duration{"busy.example": time.Hour}[registry]
	}
	pod := podOf("team-a", "web", image)
	pod.Uses = append(pod.Uses, audit.Use{Container: "container sidecar", Image: "busy.example/app:v1"})
	w.state.Pod(pod, w.now)
	w.pass(30 * time.Second)
	if len(w.reports) > 0 {
		t.Fatal("it does not wait")
	}
	w.pass(time.Minute)
	if got := w.report("team-a", "uid-team-a-web"); got.Summary != (auditor.Summary{Pass: 1, Error: 1}) {
		t.Errorf("report %+v", got)
	}
	w.ready = func(string) time.Duration { return 0 }
	w.pass(2 * time.Second)
	next := w.again()
	next.ready = func(registry string) time.Duration {
		return map[string]time.Duration{"busy.example": time.Hour}[registry]
	}
	next.state.Pod(pod, next.now)
	next.start()
	next.pass(10 * time.Minute)
	if got := next.report("team-a", "uid-team-a-web"); got.Summary != (auditor.Summary{Pass: 2}) {
		t.Errorf("another leader, who cannot verify all, makes of it %+v", got)
	}
}

// TestReportsAreBounded and hold nothing that breaks who reads them.
func TestReportsAreBounded(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	w.verdict = func(c audit.Check) audit.Verdict {
		if strings.Contains(c.Image, "-7:") {
			return audit.Verdict{Code: reason.NoSignature, Reason: "\x1b[2J" + strings.Repeat("no\nsignature\xff", 5000), Signer: strings.Repeat("x", 10_000)}
		}
		return good()
	}
	pod := podOf("team-a", "web", image)
	for i := range 3000 {
		pod.Uses = append(pod.Uses, audit.Use{Container: fmt.Sprint("container c", i), Image: fmt.Sprintf("reg.example/acme/%s-%d:v1", strings.Repeat("a", 200), i)})
	}
	pod.Uses = append(pod.Uses, audit.Use{Container: "container odd", Image: "not an image\u202e\x00" + strings.Repeat("y", 5000)})
	w.state.Pod(pod, w.now)
	w.pass(2 * time.Second)
	report := w.report("team-a", "uid-team-a-web")
	text, err := json.Marshal(report)
	if err != nil || len(text) > 300_000 || len(report.Results) != 101 || report.Results[0].Result != auditor.Fail {
		t.Errorf("%d results in %d bytes, %v", len(report.Results), len(text), err)
	}
	if strings.ContainsAny(string(text), "\x1b\x00\u202e") || strings.Contains(string(text), `\u001b`) || strings.Contains(string(text), `\n`) || strings.Contains(string(text), `\u0000`) {
		t.Error("it holds control characters")
	}
	if s := report.Summary; s.Pass+s.Fail != 3002 || s.Fail != 1 {
		t.Errorf("summary %+v", s)
	}
	for _, event := range w.events {
		if len(event.Note) > 1024 || len(event.Name) > 253 {
			t.Errorf("an Event %q of %d bytes", event.Name, len(event.Note))
		}
	}
}

func TestExceptedNamespacesAreNotLookedAt(t *testing.T) {
	w := newWorld(t, auditor.Options{Except: []string{"kube-system"}})
	w.start()
	w.state.Namespace("kube-system", false, w.now)
	w.pod("kube-system", "dns", image)
	w.pass(time.Second)
	if len(w.reports) > 0 || w.counted() != "" {
		t.Errorf("%d reports, verified %s", len(w.reports), w.counted())
	}
}

func TestCountsAreOfImages(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	w.verdict = func(c audit.Check) audit.Verdict {
		for part, code := range map[string]reason.Code{"denied": reason.NoSignature, "skipped": reason.Skipped, "untold": reason.Timeout} {
			if strings.Contains(c.Image, part) {
				return coded(code)
			}
		}
		return good()
	}
	w.ready = func(registry string) time.Duration {
		return map[string]time.Duration{"busy.example": time.Minute}[registry]
	}
	for i, image := range []string{image, image, "reg.example/denied:v1", "reg.example/skipped:v1", "reg.example/untold:v1", "busy.example/app:v1"} {
		w.pod("team-a", fmt.Sprint("web-", i), image)
	}
	w.work()
	want := map[auditor.Result]int{auditor.Pass: 1, auditor.Fail: 1, auditor.Skip: 1, auditor.Error: 1, auditor.Pending: 1}
	if got := w.state.Images()["team-a"]; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("counts %v, want %v", got, want)
	}
	if !w.state.Oldest().Equal(begin) {
		t.Errorf("the oldest verdict is of %s", w.state.Oldest())
	}
}

// TestTheBudgetHoldsInEveryMinute, however requests come.
func TestTheBudgetHoldsInEveryMinute(t *testing.T) {
	for _, perMinute := range []int{2, 10, 60, 600} {
		budget, now := auditor.NewBudget(perMinute), begin
		var sent []time.Time
		for i := range 5000 {
			if i%700 == 0 {
				now = now.Add(2 * time.Minute) // a quiet time saves up no more than the burst
			}
			now = now.Add(budget.Wait(now))
			if wait := budget.Reserve(now); wait != 0 {
				t.Fatalf("it waits for %s when there is nothing to wait for", wait)
			}
			sent = append(sent, now)
		}
		for i := range sent[:len(sent)-perMinute] {
			if within := sent[i+perMinute].Sub(sent[i]); within < time.Minute {
				t.Fatalf("%d a minute: %d within %s", perMinute, perMinute+1, within)
			}
		}
		if most := 700 * time.Minute / time.Duration(perMinute-max(1, perMinute/10)); sent[699].Sub(sent[0]) > most {
			t.Errorf("%d a minute: 700 take %s", perMinute, sent[699].Sub(sent[0]))
		}
	}
}

func TestABudgetPauses(t *testing.T) {
	budget := auditor.NewBudget(600)
	budget.Pause(begin, 30*time.Second)
	budget.Pause(begin, time.Second)
	if got := budget.Wait(begin); got != 30*time.Second {
		t.Errorf("it waits for %s", got)
	}
	budget.Pause(begin, 100*24*time.Hour)
	if got := budget.Wait(begin); got != time.Hour {
		t.Errorf("it waits for %s", got)
	}
	if budget.Idle(begin) || !budget.Idle(begin.Add(time.Hour)) {
		t.Error("it is forgotten while it pauses, or never")
	}
}
