package certmanager

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// Times of the election. A leader that died is replaced after the lease's duration and two retry periods, each of which the
// election's jitter lengthens by up to 120 %.
const (
	leaseDuration = 12 * time.Second // whole seconds: others do not acquire the lease for so long after its last renewal
	renewDeadline = 8 * time.Second  // a leader that could not renew for so long stops, before its lease ends
	retryPeriod   = time.Second      // between two tries to renew or to acquire
)

// Lead takes part in the election on the Lease of a name until ctx ends, and runs a task for as long as this process is the
// leader. The task must end when its context does. Lead waits for it before it releases the lease or takes part again, so
// that the task never runs twice at once; only where the lease cannot be released do others wait for its end instead.
// identity must differ from that of every other process.
func Lead(ctx context.Context, client *kubeclient.Client, name, identity string, log *slog.Logger, task func(context.Context)) error {
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: client.Namespace, Name: name},
		Client:     client.Leases,
		LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
	}
	log = log.With("name", name, "identity", identity)
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(log.Handler())) // the election logs to our log
	for ctx.Err() == nil {
		// With a new elector each time: an old one remembers the lease as it was before it was lost.
		if err := runElection(ctx, lock, log, task); err != nil {
			return err
		}
	}
	return nil
}

// runElection waits to be elected, and runs the task until leadership is lost or ctx ends.
func runElection(ctx context.Context, lock *resourcelock.LeaseLock, log *slog.Logger, task func(context.Context)) error {
	term := &term{task: task, log: log}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:          lock,
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		Name:      lock.LeaseMeta.Name,
		Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: term.begin, OnStoppedLeading: func() {}},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	elector.Run(ctx) // returns when leadership is lost or ctx ends, and does not wait for the task
	term.end()
	release(ctx, lock, log)
	return nil
}

// term is the time during which this process leads.
type term struct {
	task    func(context.Context)
	log     *slog.Logger
	running sync.WaitGroup

	mu   sync.Mutex
	led  bool
	over bool // the elector may call begin even after it returned
}

func (t *term) begin(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return
	}
	t.led = true
	t.log.Info("leading")
	t.running.Go(func() { t.task(ctx) })
}

// end waits for the task, whose context has ended.
func (t *term) end() {
	t.mu.Lock()
	t.over = true
	led := t.led
	t.mu.Unlock()
	t.running.Wait()
	if led {
		t.log.Info("not leading")
	}
}

// release lets another process lead at once. It changes the lease only if this process holds it, and only in the version that
// was read.
func release(ctx context.Context, lock *resourcelock.LeaseLock, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewDeadline/2)
	defer cancel()
	record, _, err := lock.Get(ctx)
	if err != nil || record.HolderIdentity != lock.Identity() {
		return // the lease ends by itself, or another process holds it already
	}
	now := metav1.NewTime(time.Now())
	free := resourcelock.LeaderElectionRecord{LeaderTransitions: record.LeaderTransitions, LeaseDurationSeconds: 1, RenewTime: now, AcquireTime: now}
	if err := lock.Update(ctx, free); err != nil {
		log.Warn("the lease is not given up; it ends by itself", "in", leaseDuration.String(), "error", err)
	}
}
