package kube

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
)

// leadership says how it passes on. A leader that died is replaced after the lease's duration and two periods, each
// drawn out by up to 2.2 (the election's jitter).
type leadership struct {
	lease  time.Duration // of whole seconds: others keep away for so long after the last renewal
	renew  time.Duration // after so long without a renewal a leader stops; before its lease ends
	period time.Duration // between two tries to renew or to acquire
}

// soon hands a dead leader's work on within 17 s.
func soon() leadership {
	return leadership{lease: 12 * time.Second, renew: 8 * time.Second, period: time.Second}
}

// Lead runs a task for as long as this process is the leader of a name, and stands for election until ctx ends. The
// task must end when its context does. It is waited for before another may lead and before this process stands again,
// so that it never runs twice at once; only where the API server cannot be told in time, others take over after the
// lease's duration. identity tells the candidates apart and must not be that of another process.
func (c *Client) Lead(ctx context.Context, name, identity string, log *slog.Logger, task func(context.Context)) error {
	return c.lead(ctx, soon(), name, identity, log, task)
}

func (c *Client) lead(ctx context.Context, how leadership, name, identity string, log *slog.Logger, task func(context.Context)) error {
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: c.Namespace, Name: name},
		Client:     c.leases,
		LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
	}
	log = log.With("name", name, "identity", identity)
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(log.Handler())) // what the election has to say goes to our log
	for ctx.Err() == nil {
		// Anew each time: an elector remembers what it saw of the lease before it lost it.
		if err := stand(ctx, how, lock, log, task); err != nil {
			return err
		}
	}
	return nil
}

// stand waits to be elected, and runs the task until leadership is lost or ctx ends.
func stand(ctx context.Context, how leadership, lock *resourcelock.LeaseLock, log *slog.Logger, task func(context.Context)) error {
	tasks := &term{task: task, log: log}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:          lock,
		LeaseDuration: how.lease, RenewDeadline: how.renew, RetryPeriod: how.period,
		Name:      lock.LeaseMeta.Name,
		Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: tasks.begin, OnStoppedLeading: func() {}},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	elector.Run(ctx) // returns when leadership is lost, or ctx ends; it waits for nobody
	tasks.end()
	release(ctx, how, lock, log)
	return nil
}

// term is the time in which a process leads, if it comes to that.
type term struct {
	task    func(context.Context)
	log     *slog.Logger
	running sync.WaitGroup

	mu   sync.Mutex
	led  bool
	over bool // the elector calls begin at any time, also when all is over
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

// end waits for the task, whose context is done.
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

// release lets another lead at once. It gives up what is ours only, and only in the version that was read.
func release(ctx context.Context, how leadership, lock *resourcelock.LeaseLock, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), how.renew/2)
	defer cancel()
	record, _, err := lock.Get(ctx)
	if err != nil || record.HolderIdentity != lock.Identity() {
		return // the lease ends by itself, or is another's already
	}
	now := metav1.NewTime(time.Now())
	free := resourcelock.LeaderElectionRecord{LeaderTransitions: record.LeaderTransitions, LeaseDurationSeconds: 1, RenewTime: now, AcquireTime: now}
	if err := lock.Update(ctx, free); err != nil {
		log.Warn("the lease is not given up; it ends by itself", "in", how.lease.String(), "error", err)
	}
}
