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

// How leadership passes on: a leader that died is replaced after the lease's duration, at the most.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// Lead runs a task for as long as this process is the leader of a name, and stands for election until ctx ends. The
// task must end when its context does; it is waited for, so that it never runs twice at once. identity tells the
// candidates apart.
func (c *Client) Lead(ctx context.Context, name, identity string, log *slog.Logger, task func(context.Context)) error {
	var running sync.Mutex // held while the task runs; the elector does not wait for it
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: c.Namespace, Name: name},
			Client:     c.leases,
			LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
		},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		ReleaseOnCancel: true,
		Name:            name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				running.Lock()
				defer running.Unlock()
				if ctx.Err() != nil {
					return // lost before it began
				}
				log.Info("leading", "name", name, "identity", identity)
				task(ctx)
			},
			OnStoppedLeading: func() {
				running.Lock()
				defer running.Unlock()
				log.Info("not leading", "name", name, "identity", identity)
			},
		},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(log.Handler())) // what the election has to say goes to our log
	for ctx.Err() == nil {
		elector.Run(ctx) // returns when leadership is lost; then it stands again
	}
	return nil
}
