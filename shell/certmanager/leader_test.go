package certmanager

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
)

const leasePath = kubetest.LeasesPath + "/job"

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

// candidate takes part in the election until the test ends, or the returned function is called.
func (j *job) candidate(t *testing.T, api *kubetest.Server, identity string) (resign func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	client := api.Client(t)
	go func() { ended <- Lead(ctx, client, "job", identity, testLog(t), j.do) }()
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

func holder(api *kubetest.Server) string {
	spec, _ := api.Object(leasePath)["spec"].(map[string]any)
	holder, _ := spec["holderIdentity"].(string)
	return holder
}

// TestLeadHasOneLeader runs three candidates, and expects that another one leads once the leader has resigned and its task
// has ended.
func TestLeadHasOneLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, work := kubetest.Start(t), &job{}
		work.stalls.Store(true)
		resign := map[string]func(){}
		for i := range 3 {
			identity := fmt.Sprint("candidate-", i)
			resign[identity] = work.candidate(t, api, identity)
		}
		for turn := range int32(3) {
			kubetest.Within(t, 15*time.Second, "somebody leads", func() bool { return work.terms.Load() == turn+1 && holder(api) != "" })
			leader := holder(api)
			resign[leader]()
			delete(resign, leader)
			if holder(api) == leader {
				t.Errorf("%s has resigned and holds the lease", leader)
			}
		}
		if work.clashes.Load() > 0 || work.working.Load() != 0 {
			t.Errorf("%d clashes, %d at work in the end", work.clashes.Load(), work.working.Load())
		}
	})
}

// TestLeadStopsWithoutTheAPIServerAndLeadsAgain cuts the leader off from the API server for a while.
func TestLeadStopsWithoutTheAPIServerAndLeadsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, work := kubetest.Start(t), &job{}
		work.candidate(t, api, "a")
		kubetest.Within(t, 15*time.Second, "it leads", func() bool { return work.working.Load() == 1 })
		for term := range int32(2) {
			api.Refuse(500)
			kubetest.Within(t, 15*time.Second, "it stops", func() bool { return work.working.Load() == 0 })
			api.Refuse(0)
			kubetest.Within(t, 15*time.Second, "it leads again", func() bool { return work.terms.Load() == term+2 && work.working.Load() == 1 })
		}
		if work.clashes.Load() > 0 {
			t.Errorf("%d clashes", work.clashes.Load())
		}
	})
}

// TestLeadStopsWhenItsLeaseIsTaken gives the lease to a holder that does not renew it, and expects the leader to stop, and
// to lead again after the lease's duration.
func TestLeadStopsWhenItsLeaseIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, work := kubetest.Start(t), &job{}
		work.candidate(t, api, "a")
		kubetest.Within(t, 15*time.Second, "it leads", func() bool { return work.working.Load() == 1 })
		api.Change(t, leasePath, func(object, _ map[string]any) {
			spec := object["spec"].(map[string]any)
			spec["holderIdentity"], spec["renewTime"] = "thief", time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
		})
		kubetest.Within(t, 15*time.Second, "it stops", func() bool { return work.working.Load() == 0 })
		if holder(api) != "thief" {
			t.Errorf("%q holds the lease right after it was taken away", holder(api))
		}
		kubetest.Within(t, 20*time.Second, "it leads again", func() bool { return work.working.Load() == 1 && holder(api) == "a" })
	})
}

// TestTermDoesNotBeginAfterItsEnd holds that a late call of the elector starts no work.
func TestTermDoesNotBeginAfterItsEnd(t *testing.T) {
	work := &job{}
	late := &term{task: work.do, log: (&kubetest.Log{}).Logger()}
	late.end()
	late.begin(t.Context())
	late.running.Wait()
	if work.terms.Load() != 0 {
		t.Error("the task ran")
	}
}

// TestDeadLeadersAreReplacedSoon bounds the time from the last renewal, for the worst phase of the candidate's retries.
func TestDeadLeadersAreReplacedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, work := kubetest.Start(t), &job{}
		now := time.Now().UTC().Format(metav1.RFC3339Micro)
		api.Put(kubetest.LeasesPath, "job", fmt.Sprintf(`{"spec":{"holderIdentity":"dead","leaseDurationSeconds":%d,"acquireTime":%q,"renewTime":%q}}`, int(leaseDuration.Seconds()), now, now))
		work.candidate(t, api, "a")
		time.Sleep(leaseDuration - retryPeriod)
		if work.terms.Load() != 0 {
			t.Error("the lease was taken before its end")
		}
		kubetest.Within(t, 6*time.Second, "another leads", func() bool { return work.working.Load() == 1 })
	})
}

func testLog(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }
