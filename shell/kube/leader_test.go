package kube

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"
)

const leasePath = "/apis/coordination.k8s.io/v1/namespaces/ours/leases/job"

// brief is leadership for tests; the lease's duration has whole seconds.
func brief() leadership {
	return leadership{lease: 2 * time.Second, renew: time.Second, period: 100 * time.Millisecond}
}

// job is what candidates compete for.
type job struct {
	terms   atomic.Int32 // that began
	working atomic.Int32 // at this moment
	clashes atomic.Int32 // moments at which more than one worked
	stalls  atomic.Bool  // the task goes on for a while after its context ended
}

func (j *job) do(ctx context.Context) {
	j.terms.Add(1)
	if j.working.Add(1) > 1 {
		j.clashes.Add(1)
	}
	<-ctx.Done()
	if j.stalls.Load() {
		time.Sleep(300 * time.Millisecond)
	}
	j.working.Add(-1)
}

// candidate stands for election until the test ends, or the returned function is called.
func (j *job) candidate(t *testing.T, api *apiServer, identity string) (resign func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	client := api.client(t)
	go func() { ended <- client.lead(ctx, brief(), "job", identity, testLog(t), j.do) }()
	done := func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", identity, err)
		}
		close(ended) // a second call gets nil
	}
	resigned := false
	resign = func() {
		if !resigned {
			resigned = true
			done()
		}
	}
	t.Cleanup(resign)
	return resign
}

func (a *apiServer) holder() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	spec, _ := a.objects[leasePath]["spec"].(map[string]any)
	holder, _ := spec["holderIdentity"].(string)
	return holder
}

// TestOneLeads among three, and when it resigns another does, once the task of the first has ended.
func TestOneLeads(t *testing.T) {
	api, work := startAPI(t), &job{}
	work.stalls.Store(true)
	resign := map[string]func(){}
	for i := range 3 {
		identity := fmt.Sprint("candidate-", i)
		resign[identity] = work.candidate(t, api, identity)
	}
	for turn := range int32(3) {
		within(t, 15*time.Second, "somebody leads", func() bool { return work.terms.Load() == turn+1 && api.holder() != "" })
		leader := api.holder()
		resign[leader]()
		delete(resign, leader)
		if api.holder() == leader {
			t.Errorf("%s has resigned and holds the lease", leader)
		}
	}
	if work.clashes.Load() > 0 || work.working.Load() != 0 {
		t.Errorf("%d clashes, %d at work in the end", work.clashes.Load(), work.working.Load())
	}
}

// TestALeaderThatIsCutOffStopsAndStandsAgain, as it is alive all the time.
func TestALeaderThatIsCutOffStopsAndStandsAgain(t *testing.T) {
	api, work := startAPI(t), &job{}
	work.candidate(t, api, "a")
	within(t, 15*time.Second, "it leads", func() bool { return work.working.Load() == 1 })
	for term := range int32(2) {
		api.refuses(500)
		within(t, 15*time.Second, "it stops", func() bool { return work.working.Load() == 0 })
		api.refuses(0)
		within(t, 15*time.Second, "it leads again", func() bool { return work.terms.Load() == term+2 && work.working.Load() == 1 })
	}
	if work.clashes.Load() > 0 {
		t.Errorf("%d clashes", work.clashes.Load())
	}
}

// TestALeaseThatIsTakenAway stops its leader, which leads again when the new holder is dead for the lease's duration.
func TestALeaseThatIsTakenAway(t *testing.T) {
	api, work := startAPI(t), &job{}
	work.candidate(t, api, "a")
	within(t, 15*time.Second, "it leads", func() bool { return work.working.Load() == 1 })
	api.change(t, leasePath, func(object, _ map[string]any) {
		spec := object["spec"].(map[string]any)
		spec["holderIdentity"], spec["renewTime"] = "thief", time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
	})
	within(t, 15*time.Second, "it stops", func() bool { return work.working.Load() == 0 })
	if api.holder() != "thief" {
		t.Errorf("%q holds the lease right after it was taken away", api.holder())
	}
	within(t, 15*time.Second, "it leads again", func() bool { return work.working.Load() == 1 && api.holder() == "a" })
}

// TestATermThatIsOverDoesNotBegin: the elector may call late.
func TestATermThatIsOverDoesNotBegin(t *testing.T) {
	work := &job{}
	late := &term{task: work.do, log: (&record{}).logger()}
	late.end()
	late.begin(t.Context())
	late.running.Wait()
	if work.terms.Load() != 0 {
		t.Error("the task ran")
	}
}

// TestTakeoverIsSoon adds up the worst case of a leader that dies right after a renewal: it is seen late, the lease
// runs out, and the next try is late.
func TestTakeoverIsSoon(t *testing.T) {
	const jitter = 2.2 // a period is drawn out by up to 1.2 of itself
	late := time.Duration(jitter * float64(soon().period))
	if worst := late + soon().lease + late; worst > 18*time.Second {
		t.Errorf("a dead leader is replaced after %s", worst)
	}
}

func testLog(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }
