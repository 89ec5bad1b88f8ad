package auditor_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// TestAPodThatChangesWhileItsReportIsWritten keeps the report, and is told of once.
func TestAPodThatChangesWhileItsReportIsWritten(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	w.verdict = func(audit.Check) audit.Verdict { return coded(reason.NoSignature) }
	w.pod("team-a", "web", image)
	task, _ := w.state.Next(w.now, w.ready)
	w.state.Verified(task, w.verdict(task.Check), w.now)
	write, _ := w.state.NextWrite(w.now)
	running := podOf("team-a", "web", image)
	running.Uses[0].Running = digest
	w.state.Pod(running, w.now) // its only pod starts, while the report is on its way
	w.write(write)
	deleted := 0
	for range 60 {
		if write, _ := w.state.NextWrite(w.now); write != nil {
			if write.Report == nil {
				deleted++
			}
			w.write(write)
		}
		w.pass(time.Second)
	}
	if len(w.events) != 1 || deleted > 0 || w.report("team-a", "uid-team-a-web").Results[0].Properties["running"] != digest {
		t.Errorf("%d deletions, %d Events, report %+v", deleted, len(w.events), w.report("team-a", "uid-team-a-web"))
	}
}

// TestAnImageThatIsNeverVerifiedHidesNoDenial: whoever writes a pod names a registry that wants to be left alone.
func TestAnImageThatIsNeverVerifiedHidesNoDenial(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	w.ready = func(registry string) time.Duration {
		return map[string]time.Duration{"busy.example": time.Hour}[registry]
	}
	pod := podOf("team-a", "web", image)
	w.state.Pod(pod, w.now)
	w.pass(time.Minute)
	w.report("team-a", "uid-team-a-web")
	pod.Uses = append(pod.Uses, audit.Use{Container: "container shield", Image: "busy.example/app:v1"})
	w.state.Pod(pod, w.now)
	w.pass(time.Minute)
	if got := w.report("team-a", "uid-team-a-web").Summary; got != (auditor.Summary{Pass: 1}) {
		t.Errorf("while nothing is known to be worse, the report says %+v", got)
	}
	w.verdict = func(audit.Check) audit.Verdict { return coded(reason.SignatureUntrusted) }
	w.revision["team-a"] = "withdrawn"
	w.trust()
	w.pass(10 * time.Second)
	if got := w.report("team-a", "uid-team-a-web").Summary; got != (auditor.Summary{Fail: 1, Error: 1}) {
		t.Errorf("ten seconds after trust was withdrawn, the report says %+v", got)
	}
}

// TestAnImageThatIsNeverVerifiedIsToldOf in the end.
func TestAnImageThatIsNeverVerifiedIsToldOf(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	w.pod("team-a", "web", image)
	w.pod("team-a", "other", image)
	w.pass(time.Minute)
	w.ready = func(string) time.Duration { return time.Hour }
	next := w.again()
	next.ready = w.ready
	next.pod("team-a", "web", image)
	next.pod("team-a", "other", image)
	next.start()
	next.pass(interval)
	if next.versions != w.versions {
		t.Error("it is told of before its time")
	}
	next.pass(3 * interval)
	if got := next.report("team-a", "uid-team-a-web").Summary; got.Error != 1 {
		t.Errorf("after three intervals, the report says %+v", got)
	}
}

// TestReportsOfOthersAreLeftAlone that have our label, but no name of ours.
func TestReportsOfOthersAreLeftAlone(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	foreign := auditor.Report{Metadata: auditor.Metadata{Name: "cpol-require-labels", Namespace: "team-a", ResourceVersion: "7", Labels: map[string]string{auditor.LabelManagedBy: auditor.ManagedBy}}}
	w.reports["team-a/cpol-require-labels"] = foreign
	w.start()
	later := foreign
	later.Metadata.Name = "uid-team-a-web" // what a workload's name without the prefix would be
	w.reports["team-a/uid-team-a-web"] = later
	w.state.Report(later)
	w.pod("team-a", "web", image)
	w.pass(time.Hour)
	if len(w.reports) != 3 {
		t.Errorf("of two reports of others and one of ours there are %d", len(w.reports))
	}
	w.state.ReportGone("team-a", "uid-team-a-web")
	w.pass(time.Minute)
	if w.versions != 1 {
		t.Errorf("ours is written %d times", w.versions)
	}
}

// TestNamespacesThatAreNotThereAreForgotten, in whatever order their end is seen.
func TestNamespacesThatAreNotThereAreForgotten(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	for i := range 1000 {
		name := fmt.Sprint("ci-", i)
		w.state.Namespace(name, false, w.now)
		w.pod(name, "job", image)
		w.pass(2 * time.Second)
		seen := w.report(name, "uid-"+name+"-job")
		w.state.NamespaceGone(name, w.now)
		w.state.PodGone(name, "job", w.now)
		w.pass(2 * time.Second)
		w.state.Report(seen) // the watch of reports is behind
		w.state.ReportGone(name, seen.Metadata.Name)
		w.pass(2 * time.Second)
	}
	if n := w.state.Spaces(); n > 1 {
		t.Errorf("%d namespaces are kept", n)
	}
}

// TestNamespacesThatTakeAllRoomLeaveSome: however many namespaces somebody fills, another's images are looked at.
func TestNamespacesThatTakeAllRoomLeaveSome(t *testing.T) {
	w := newWorld(t, auditor.Options{MaxUses: 5000})
	w.start()
	for n := range 40 {
		for i := range 300 {
			w.pod(fmt.Sprint("greedy-", n), fmt.Sprint("web-", i), fmt.Sprintf("reg.example/greedy/app-%d-%d:v1", n, i))
		}
	}
	for i := range 10 {
		w.pod("modest", fmt.Sprint("web-", i), fmt.Sprintf("reg.example/modest/app-%d:v1", i))
	}
	if sizes := w.state.Sizes(); w.state.Images()["modest"][auditor.Pending] != 10 || sizes.Images > 5000 || sizes.LeftOut < 7000 {
		t.Errorf("of 10 there are %v, sizes %+v", w.state.Images()["modest"], sizes)
	}
}

// TestReportsDoNotWaitForEvents for ever: an API server may keep those elsewhere, and fail to.
func TestReportsDoNotWaitForEvents(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	w.verdict = func(audit.Check) audit.Verdict { return coded(reason.NoSignature) }
	w.pod("team-a", "web", image)
	tries := 0
	w.outcome = func(write *auditor.Write) auditor.Outcome {
		tries++
		if write.Event != nil && !write.Late {
			return auditor.Failed
		}
		return auditor.Written
	}
	w.pass(time.Minute)
	if tries < 3 || tries > 6 {
		t.Errorf("the report is written after %d tries", tries)
	}
	before := tries
	w.pass(time.Hour / 2)
	if tries != before {
		t.Errorf("it is written again, %d times", tries-before)
	}
}

// TestWhatIsNotDueCostsLittle: no registry is looked up for it, however many images there are.
func TestWhatIsNotDueCostsLittle(t *testing.T) {
	w := newWorld(t, auditor.Options{})
	w.start()
	for i := range 100 {
		w.pod("team-a", fmt.Sprint("web-", i), fmt.Sprintf("reg.example/acme/app-%d:v1", i))
	}
	w.work()
	asked := 0
	if task, wait := w.state.Next(w.now, func(string) time.Duration { asked++; return 0 }); task != nil || wait <= 0 || asked > 0 {
		t.Errorf("%d registries are looked up, and what is next is %+v after %s", asked, task, wait)
	}
}
