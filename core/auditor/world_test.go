package auditor_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

const interval = time.Hour

var begin = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// world is a cluster with an auditor: what the shell is to the state, without effects.
type world struct {
	*testing.T
	state    *auditor.State
	now      time.Time
	revision map[string]string                    // of the trust of a namespace; "" where the map has none
	verdict  func(audit.Check) audit.Verdict      // of the registry
	ready    func(string) time.Duration           // of the registry
	store    func(auditor.Report) auditor.Report  // what an API server makes of a report
	outcome  func(*auditor.Write) auditor.Outcome // of a write; nil for Written
	reports  map[string]auditor.Report            // that exist, by namespace/name
	verified map[auditor.Cause][]string           // images, in order
	events   []auditor.Event                      // in order, each name once
	named    map[string]bool                      // names of Events
	versions int                                  // of reports
}

func newWorld(t *testing.T, options auditor.Options) *world {
	options.Interval = interval
	options.MaxOfRegistry, options.MaxOfOne = max(options.MaxOfRegistry, 1), max(options.MaxOfOne, 1)
	w := &world{
		T: t, state: auditor.New(options), now: begin, revision: map[string]string{}, reports: map[string]auditor.Report{}, named: map[string]bool{},
		verdict: func(c audit.Check) audit.Verdict { return good() },
		ready:   func(string) time.Duration { return 0 },
		store:   func(r auditor.Report) auditor.Report { return r },
	}
	w.forget()
	return w
}

func good() audit.Verdict {
	return audit.Verdict{Code: reason.Verified, Reason: "signed by CN=Acme", Digest: digest, Signer: "CN=Acme"}
}

func coded(code reason.Code) audit.Verdict { return audit.Verdict{Code: code, Reason: "it is so"} }

const digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// start has the auditor see an empty cluster, the trust and the reports that exist.
func (w *world) start() {
	w.trust()
	var exist []auditor.Report
	for _, report := range w.reports {
		exist = append(exist, report)
	}
	w.state.Reports(exist)
}

// again is another leader, who sees the same reports.
func (w *world) again() *world {
	next := newWorld(w.T, auditor.Options{})
	next.reports, next.revision, next.verdict, next.now, next.versions = w.reports, w.revision, w.verdict, w.now, w.versions
	next.named = w.named
	return next
}

// trust has the auditor see the trust of now.
func (w *world) trust() {
	revision := map[string]string{}
	for policy, of := range w.revision {
		revision[policy] = of
	}
	demands, err := audit.Everywhere("tp-{{ namespace }}", nil)
	if err != nil {
		w.Fatal(err)
	}
	w.state.Trust(auditor.Trust{
		Checks: func(use audit.Use) []audit.Check { return demands.Checks([]audit.Use{use}) },
		Findings: func(uses []audit.Use, verdicts audit.Verdicts) []audit.Finding {
			return audit.Evaluation{Demands: demands, Verdicts: verdicts}.FindingsByPolicy(uses)
		},
		Revision: func(c audit.Check) (string, *audit.Verdict) {
			of := revision[strings.TrimPrefix(c.TrustPolicy, "tp-")]
			if of == "none" {
				missing := coded(reason.TrustPolicyNotFound)
				return "none", &missing
			}
			return "revision " + of, nil
		},
	}, w.now)
}

// forget counts verifications and Events anew.
func (w *world) forget() {
	w.verified, w.events = map[auditor.Cause][]string{}, nil
}

// pass lets time pass, and has the auditor do what is due meanwhile, each second.
func (w *world) pass(d time.Duration) {
	w.Helper()
	for end := w.now.Add(d); ; {
		w.work()
		if !w.now.Before(end) {
			return
		}
		w.now = w.now.Add(min(max(time.Second, d/1000), end.Sub(w.now)))
		w.state.Settle(w.now)
	}
}

// work does all that is due now.
func (w *world) work() {
	w.Helper()
	for steps := 0; ; steps++ {
		if steps > 100_000 {
			w.Fatal("it does not come to an end")
		}
		if task, _ := w.state.Next(w.now, w.ready); task != nil {
			w.verified[task.Cause] = append(w.verified[task.Cause], task.Image)
			w.state.Verified(task, w.verdict(task.Check), w.now)
			continue
		}
		write, _ := w.state.NextWrite(w.now)
		if write == nil {
			return
		}
		w.write(write)
	}
}

// write does a write as an API server would.
func (w *world) write(write *auditor.Write) {
	key := write.Namespace + "/" + write.Name
	if write.Event != nil && !w.named[write.Event.Name] {
		w.named[write.Event.Name] = true
		w.events = append(w.events, *write.Event)
	}
	if w.outcome != nil {
		if outcome := w.outcome(write); outcome != auditor.Written {
			w.state.Wrote(write, outcome, nil, w.now)
			return
		}
	}
	have, exists := w.reports[key]
	switch {
	case exists != (write.Version != ""), exists && have.Metadata.ResourceVersion != write.Version:
		w.state.Wrote(write, auditor.Conflict, nil, w.now)
	case write.Report == nil:
		delete(w.reports, key)
		w.state.Wrote(write, auditor.Written, nil, w.now)
		w.state.ReportGone(write.Namespace, write.Name)
	default:
		w.versions++
		stored := w.store(*write.Report)
		stored.Metadata.ResourceVersion = fmt.Sprint(w.versions)
		w.reports[key] = stored
		w.state.Wrote(write, auditor.Written, &stored, w.now)
		w.state.Report(stored) // the watch brings it back
	}
}

// pod has the auditor see a pod that runs an image.
func (w *world) pod(namespace, name, image string, controller ...auditor.Ref) {
	w.state.Pod(podOf(namespace, name, image, controller...), w.now)
}

func podOf(namespace, name, image string, controller ...auditor.Ref) auditor.Pod {
	pod := auditor.Pod{
		Object: auditor.Object{Ref: auditor.Ref{APIVersion: "v1", Kind: "Pod", Name: name, UID: "uid-" + namespace + "-" + name}, Namespace: namespace},
		Uses:   []audit.Use{{Container: "container app", Image: image}},
	}
	if len(controller) > 0 {
		pod.Controller = controller[0]
	}
	return pod
}

// owner has the auditor see an owner.
func (w *world) owner(namespace string, of auditor.Ref, controller ...auditor.Ref) auditor.Ref {
	object := auditor.Object{Ref: of, Namespace: namespace}
	if len(controller) > 0 {
		object.Controller = controller[0]
	}
	w.state.Object(object, w.now)
	return of
}

func ref(apiVersion, kind, name string) auditor.Ref {
	return auditor.Ref{APIVersion: apiVersion, Kind: kind, Name: name, UID: "uid-" + kind + "-" + name}
}

// report gives the report on a workload.
func (w *world) report(namespace, uid string) auditor.Report {
	w.Helper()
	report, exists := w.reports[namespace+"/notation-"+uid]
	if !exists {
		w.Fatalf("there is no report on %s in %s, but %d others", uid, namespace, len(w.reports))
	}
	return report
}

// counted gives how many images were verified for each cause.
func (w *world) counted() string {
	text := ""
	for _, cause := range auditor.Causes() {
		if n := len(w.verified[cause]); n > 0 {
			text += fmt.Sprintf("%s %d ", cause, n)
		}
	}
	return strings.TrimSpace(text)
}
