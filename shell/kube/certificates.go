package kube

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/shell/issuer"
)

// The objects that the certificates are in, all in the service's namespace.
const (
	AuthoritySecret = "kyverno-notation-venafi-ca"  // the CA's certificate and key, and those of its successor
	ServingSecret   = "kyverno-notation-venafi-tls" // the serving certificate and its key, and a copy of the bundle
	BundleConfigMap = "kyverno-notation-venafi-ca"  // what clients trust
)

const (
	mostSteps    = 20              // in a row; more would mean that someone else changes things back
	afterMany    = 5 * time.Second // until the next try then
	firstFailure = time.Second     // until the next try after a failure; then twice as long
	lastFailure  = 30 * time.Second
	longestPause = 10 * time.Minute // without a change, in case a watch misses one
)

// CertificateManager keeps the service's certificates as package certificates plans them. One process should run it; where
// two do for a moment, neither writes over what it has not seen.
type CertificateManager struct {
	client  *Client
	policy  certificates.Policy
	others  Others
	log     *slog.Logger
	link    *link
	watches []*one[string]
	changed chan struct{} // holds a change that was not looked at yet
}

// Others names objects that are made where they are missing, and otherwise left alone.
type Others struct {
	EpochConfigMap string // see Epoch
	CallerSecret   string // see CallerSecret; "" for none
}

// NewCertificateManager prepares; Run does the work.
func NewCertificateManager(client *Client, policy certificates.Policy, others Others, log *slog.Logger) *CertificateManager {
	m := &CertificateManager{client: client, policy: policy, others: others, log: log, changed: make(chan struct{}, 1)}
	// Watched for the fact of a change only; what is decided on is read anew, all at one time.
	version := func(object *unstructured.Unstructured) string { return object.GetResourceVersion() }
	m.watches = []*one[string]{
		watchOne("secrets", client.Namespace, AuthoritySecret, version),
		watchOne("secrets", client.Namespace, ServingSecret, version),
		watchOne("configmaps", client.Namespace, BundleConfigMap, version),
		watchOne("configmaps", client.Namespace, others.EpochConfigMap, version),
	}
	if others.CallerSecret != "" {
		m.watches = append(m.watches, watchOne("secrets", client.Namespace, others.CallerSecret, version))
	}
	var targets []target
	for _, watch := range m.watches {
		watch.mirror.changed = m.note
		targets = append(targets, watch.target)
	}
	m.link = newLink(log, "certificates", targets...)
	return m
}

func (m *CertificateManager) note() {
	select {
	case m.changed <- struct{}{}:
	default: // one is noted already
	}
}

// Run keeps the certificates until ctx ends. Run it once.
func (m *CertificateManager) Run(ctx context.Context) {
	var watches sync.WaitGroup
	for _, watch := range m.watches {
		watches.Go(func() { m.client.watch(ctx, watch.target, &watch.mirror, m.link.report) })
	}
	defer watches.Wait()
	failure := firstFailure
	for ctx.Err() == nil {
		pause, err := m.settle(ctx)
		switch {
		case err == nil:
			failure = firstFailure
		case ctx.Err() == nil:
			pause = failure
			failure = min(2*failure, lastFailure)
			m.log.Error("certificates cannot be kept; it is tried again", "in", pause.String(), "error", err)
		}
		m.wait(ctx, pause, err != nil)
	}
}

// wait lets time pass. After a failure a change does not cut it short, as the failure may be the change.
func (m *CertificateManager) wait(ctx context.Context, pause time.Duration, failed bool) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	changed := m.changed
	if failed {
		changed = nil
	}
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-changed:
	}
}

// settle takes steps until there is nothing to do, and gives the time until there is.
func (m *CertificateManager) settle(ctx context.Context) (time.Duration, error) {
	for range mostSteps {
		objects, err := m.gather(ctx)
		if err != nil {
			return 0, err
		}
		now := time.Now()
		step := m.policy.Next(objects.state, now)
		switch {
		case step.Action == certificates.Rest && objects.epoch == nil:
			err = m.create(ctx, m.newObject("ConfigMap", m.others.EpochConfigMap), "configmaps")
		case step.Action == certificates.Rest && objects.caller == nil && m.others.CallerSecret != "":
			m.log.Info("making a token for callers", "secret", m.others.CallerSecret)
			err = m.create(ctx, withCallerToken(m.newObject("Secret", m.others.CallerSecret)), "secrets")
		case step.Action == certificates.Rest:
			return min(step.At.Sub(now), longestPause), nil
		default:
			m.log.Info("certificates", "action", step.Action, "reason", step.Reason)
			err = m.act(ctx, objects, step, now)
		}
		if err != nil && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) { // else it is seen in the next round
			return 0, err
		}
	}
	m.log.Warn("certificates do not settle: someone else changes them too")
	return afterMany, nil
}

// act takes one step, on the objects that it was decided on.
func (m *CertificateManager) act(ctx context.Context, from objects, step certificates.Step, now time.Time) error {
	switch step.Action {
	case certificates.CreateAuthority:
		authority, err := issuer.Authority(m.policy, now)
		if err != nil {
			return fmt.Errorf("new CA: %w", err)
		}
		return m.writeAuthorities(ctx, from, authority, nil)
	case certificates.CreateSuccessor:
		successor, err := issuer.Authority(m.policy, now)
		if err != nil {
			return fmt.Errorf("next CA: %w", err)
		}
		return m.writeAuthorities(ctx, from, from.state.Authority, successor)
	case certificates.Promote:
		return m.writeAuthorities(ctx, from, from.state.Successor, nil)
	case certificates.Publish:
		return m.writeBundle(ctx, from, step.Bundle)
	case certificates.IssueServing:
		serving, err := issuer.Serving(m.policy, from.state.Authority, now)
		if err != nil {
			return fmt.Errorf("new serving certificate: %w", err)
		}
		return m.writeServing(ctx, from, serving)
	}
	return fmt.Errorf("certificates: unknown action %q", step.Action)
}
