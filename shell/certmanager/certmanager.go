// Package certmanager is what the certmanager Deployment does, beside the serving replicas: its elected leader (see [Lead])
// creates and rotates the CA, the serving certificate, the token of callers and the key for records, publishes the CA bundle and
// the public keys, makes the other objects that replicas need ([Certificates]), copies the bundle to the namespaces of programs
// that mount it ([Copies]), and writes the status of the trust resources and events about certificates that expire
// ([StatusWriter]). What is done, and when, the packages core/certificates, core/callertoken, core/recordkey and shell/trust decide.
package certmanager

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/nirmata/kyverno-notation-venafi/core/callertoken"
	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/core/recordkey"
	"github.com/nirmata/kyverno-notation-venafi/shell/issuer"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// The objects that hold the certificates, all in the service's namespace.
const (
	AuthoritySecret = "kyverno-notation-venafi-ca"  // the CA's certificate and key, and those of its successor
	ServingSecret   = "kyverno-notation-venafi-tls" // the serving certificate and its key, and a copy of the bundle
	BundleConfigMap = "kyverno-notation-venafi-ca"  // what clients trust
)

const (
	maxSteps      = 20               // in a row; more means that another writer reverts the changes
	conflictPause = 5 * time.Second  // after maxSteps
	firstRetry    = time.Second      // after a failure; doubled up to lastRetry
	lastRetry     = 30 * time.Second //
	longestPause  = 10 * time.Minute // without a change, in case a watch misses one
)

// Certificates keeps the service's certificates as package core/certificates plans them, the callers' token as package
// core/callertoken does, and the key for records as package core/recordkey does. One process should run it; should two run it for a moment, neither overwrites a version that it has
// not read.
type Certificates struct {
	client  *kubeclient.Client
	policy  certificates.Policy
	others  Others
	log     *slog.Logger
	health  *kubeclient.Health
	watches []*kubeclient.Object[string]
	changed chan struct{} // holds a change that was not handled yet

	// Which version of the caller Secret was read last, and when it was read first.
	callerVersion string
	callerSince   time.Time
}

// Others are the other objects.
type Others struct {
	EpochConfigMap string             // the ConfigMap by which one replica notifies the others of a change; made where it is missing
	CallerSecret   string             // the Secret with a token for callers; "" for none
	CallerToken    callertoken.Policy // of that token
	RecordKeys     string             // the Secret with the key that signs decision records, and the ConfigMap with the public keys; "" for none
	RecordKey      recordkey.Policy   // of that key
}

// NewCertificates prepares; Run does the work.
func NewCertificates(client *kubeclient.Client, policy certificates.Policy, others Others, log *slog.Logger) *Certificates {
	m := &Certificates{client: client, policy: policy, others: others, log: log, changed: make(chan struct{}, 1)}
	// The watches only say that something changed; a decision is based on objects that are all read anew.
	secretVersion := func(secret *core.Secret) string { return secret.ResourceVersion }
	configMapVersion := func(configMap *core.ConfigMap) string { return configMap.ResourceVersion }
	m.watches = []*kubeclient.Object[string]{
		kubeclient.NewSecret(client.Namespace, AuthoritySecret, secretVersion),
		kubeclient.NewSecret(client.Namespace, ServingSecret, secretVersion),
		kubeclient.NewConfigMap(client.Namespace, BundleConfigMap, configMapVersion),
		kubeclient.NewConfigMap(client.Namespace, others.EpochConfigMap, configMapVersion),
	}
	if others.CallerSecret != "" {
		m.watches = append(m.watches, kubeclient.NewSecret(client.Namespace, others.CallerSecret, secretVersion))
	}
	if others.keepsRecordKey() {
		m.watches = append(m.watches, kubeclient.NewSecret(client.Namespace, others.RecordKeys, secretVersion), kubeclient.NewConfigMap(client.Namespace, others.RecordKeys, configMapVersion))
	}
	var targets []kubeclient.Target
	for _, watch := range m.watches {
		watch.OnChange(m.noteChange)
		targets = append(targets, watch.Target)
	}
	m.health = kubeclient.NewHealth(log, "certificates", targets...)
	return m
}

func (m *Certificates) noteChange() {
	select {
	case m.changed <- struct{}{}:
	default: // one is noted already
	}
}

// Run keeps the certificates until ctx ends. Run it once.
func (m *Certificates) Run(ctx context.Context) {
	var watches sync.WaitGroup
	for _, watch := range m.watches {
		watches.Go(func() { watch.Watch(ctx, m.client, m.health) })
	}
	defer watches.Wait()
	retry := firstRetry
	for ctx.Err() == nil {
		pause, err := m.reconcile(ctx)
		switch {
		case err == nil:
			retry = firstRetry
		case ctx.Err() == nil:
			pause = retry
			retry = min(2*retry, lastRetry)
			m.log.Error("certificates cannot be kept; it is tried again", "in", pause.String(), "error", err)
		}
		m.wait(ctx, pause, err != nil)
	}
}

// wait pauses until a change. After a failure it pauses for the whole time, as the change may be what failed.
func (m *Certificates) wait(ctx context.Context, pause time.Duration, failed bool) {
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

// reconcile takes steps until there is nothing to do, and gives the time until there will be.
func (m *Certificates) reconcile(ctx context.Context) (time.Duration, error) {
	for range maxSteps {
		objects, err := m.gather(ctx)
		if err != nil {
			return 0, err
		}
		now := time.Now()
		step := m.policy.Next(objects.state, now)
		switch {
		case step.Action == certificates.Rest && objects.epoch == nil:
			err = m.createEpoch(ctx)
		case step.Action == certificates.Rest:
			token, key := m.nextCallerToken(objects, now), m.nextRecordKey(objects, now)
			switch {
			case token.Reason != "":
				m.log.Info("token for callers", "secret", m.others.CallerSecret, "reason", token.Reason)
				err = m.writeCallerToken(ctx, objects, token.Want)
			case key.Reason != "":
				m.log.Info("key for records", "name", m.others.RecordKeys, "action", key.Action, "reason", key.Reason)
				err = m.keepRecordKey(ctx, objects, key, now)
			default:
				return min(step.At.Sub(now), token.Wait, key.Wait, longestPause), nil
			}
		default:
			m.log.Info("certificates", "action", step.Action, "reason", step.Reason)
			err = m.act(ctx, objects, step, now)
		}
		if err != nil && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) { // those are resolved by reading again
			return 0, err
		}
	}
	m.log.Warn("certificates do not settle: someone else changes them too")
	return conflictPause, nil
}

// nextCallerToken decides what the caller Secret should hold. A new token has 260 random bits.
func (m *Certificates) nextCallerToken(from objects, now time.Time) callertoken.Step {
	if m.others.CallerSecret == "" {
		return callertoken.Step{Wait: longestPause}
	}
	version, state := "", callertoken.State{}
	if from.caller != nil {
		version, state = from.caller.ResourceVersion, callertoken.Parse(from.caller.Data, from.caller.Annotations)
	}
	if version != m.callerVersion {
		m.callerVersion, m.callerSince = version, now
	}
	return m.others.CallerToken.Next(state, rand.Text()+rand.Text(), now, now.Sub(m.callerSince))
}

// act takes one step, on the objects that it was decided on.
func (m *Certificates) act(ctx context.Context, from objects, step certificates.Step, now time.Time) error {
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
