// Package certmanager is what the certmanager Deployment does, beside the serving replicas: its elected leader (see [Lead])
// creates and rotates the CA, the serving certificate, the token of callers, the key for the shared cache and the key for records, publishes the CA bundle and
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

// Certificates keeps the service's certificates as package core/certificates plans them, the callers' token and the key for the shared
// cache as package core/callertoken does, and the key for records as package core/recordkey does. One process should run it; should two run it for a moment, neither overwrites a version that it has
// not read.
type Certificates struct {
	client  *kubeclient.Client
	policy  certificates.Policy
	others  Others
	log     *slog.Logger
	health  *kubeclient.Health
	watches []*kubeclient.Object[string]
	changed chan struct{} // holds a change that was not handled yet

	tokens []*token
}

// token is a Secret with a random text that is replaced in turns.
type token struct {
	name, what string
	policy     callertoken.Policy

	// Which version of the Secret was read last, and when it was read first.
	version string
	since   time.Time
}

// Others are the other objects.
type Others struct {
	EpochConfigMap string             // the ConfigMap by which one replica notifies the others of a change; made where it is missing
	CallerSecret   string             // the Secret with a token for callers; "" for none
	CallerToken    callertoken.Policy // of that token
	SharedKeys     string             // the Secret with the key that seals what replicas share; "" for none
	SharedKey      callertoken.Policy // of that key, which is replaced as that token is
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
	for _, t := range []*token{{name: others.CallerSecret, what: "token for callers", policy: others.CallerToken}, {name: others.SharedKeys, what: "key for the shared cache", policy: others.SharedKey}} {
		if t.name != "" {
			m.tokens = append(m.tokens, t)
			m.watches = append(m.watches, kubeclient.NewSecret(client.Namespace, t.name, secretVersion))
		}
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
	changed := m.changed
	if failed {
		changed = nil
	}
	select {
	case <-ctx.Done():
	case <-time.After(pause):
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
			var pause time.Duration
			var done bool
			if pause, done, err = m.keepOthers(ctx, objects, now); done {
				return min(step.At.Sub(now), pause), nil
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

// keepOthers takes one step on the first of the other objects that needs one. Where none does, it is done, until the pause is over.
func (m *Certificates) keepOthers(ctx context.Context, from objects, now time.Time) (pause time.Duration, done bool, err error) {
	pause = longestPause
	for i, t := range m.tokens {
		step := t.next(from.tokens[i], now)
		if step.Reason != "" {
			m.log.Info(t.what, "secret", t.name, "reason", step.Reason)
			return 0, false, m.writeToken(ctx, from.tokens[i], t.name, step.Want)
		}
		pause = min(pause, step.Wait)
	}
	key := m.nextRecordKey(from, now)
	if key.Reason != "" {
		m.log.Info("key for records", "name", m.others.RecordKeys, "action", key.Action, "reason", key.Reason)
		return 0, false, m.keepRecordKey(ctx, from, key, now)
	}
	return min(pause, key.Wait), true, nil
}

// next decides what the Secret should hold; nil where it does not exist. A new token has 260 random bits.
func (t *token) next(secret *core.Secret, now time.Time) callertoken.Step {
	version, state := "", callertoken.State{}
	if secret != nil {
		version, state = secret.ResourceVersion, callertoken.Parse(secret.Data, secret.Annotations)
	}
	if version != t.version {
		t.version, t.since = version, now
	}
	return t.policy.Next(state, rand.Text()+rand.Text(), now, now.Sub(t.since))
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
