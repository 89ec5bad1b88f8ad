//go:build e2e

package callers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/callertoken"
	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
)

const (
	admissions = 2000 // under load, at least; each is two calls of the service
	rotations  = 4    // meanwhile, at least
	workers    = 4
	loadTime   = 6 * time.Minute
)

// load asks for admissions, each tenth of an unsigned image, until its context ends or an answer is not as expected.
type load struct {
	admitted, denied atomic.Int64
	running          sync.WaitGroup
	failures         chan error // at most one of each worker
}

func (fx environment) startLoad(ctx context.Context, t *testing.T) *load {
	t.Helper()
	l := &load{failures: make(chan error, workers)}
	client, signed, unsigned, want := fx.client(t), fx.Reference("signed"), fx.Reference("unsigned"), fx.Pinned(t, "signed")
	for range workers {
		l.running.Go(func() {
			for i := 1; ctx.Err() == nil && len(l.failures) == 0; i++ {
				image, expect := signed, l.expectAdmitted(want)
				if i%10 == 0 {
					image, expect = unsigned, l.expectDenied
				}
				if err := expect(admit(ctx, client, image)); err != nil && ctx.Err() == nil {
					l.failures <- err
				}
			}
		})
	}
	return l
}

func (l *load) expectAdmitted(want string) func(string, error) error {
	return func(got string, err error) error {
		if err != nil || got != want {
			return fmt.Errorf("a signed image: %s, %w; want %s", got, err, want)
		}
		l.admitted.Add(1)
		return nil
	}
}

func (l *load) expectDenied(got string, err error) error {
	if err == nil || !strings.Contains(err.Error(), "no signature is associated with") {
		return fmt.Errorf("an unsigned image: %s, %w", got, err)
	}
	l.denied.Add(1)
	return nil
}

// enough tells whether as many admissions were asked for as there should be, or one failed.
func (l *load) enough() bool {
	return len(l.failures) > 0 || l.admitted.Load()+l.denied.Load() >= admissions
}

// end waits for the workers, whose context has ended, and fails the test where an answer was not as expected.
func (l *load) end(t *testing.T, tokens int) {
	t.Helper()
	l.running.Wait()
	close(l.failures)
	for err := range l.failures {
		t.Error(err)
	}
	t.Logf("%d admitted, %d denied, %d tokens", l.admitted.Load(), l.denied.Load(), tokens)
	if !l.enough() || tokens <= rotations {
		t.Error("these are too few")
	}
}

// TestRotationUnderLoad replaces the token again and again while Kyverno's policies ask; one certificate manager is killed
// meanwhile, and another one goes on. No call fails.
func TestRotationUnderLoad(t *testing.T) {
	fx := shared
	fx.withPolicies(t)
	fx.Apply(t, fx.callersSample(t))
	manager := fx.manage(t)
	fx.admits(t, deployment.Patience)
	ctx, cancel := context.WithTimeout(t.Context(), loadTime)
	defer cancel()
	l := fx.startLoad(ctx, t)
	killed := false
	tokens := fx.watchTokens(ctx, t, func(seen int) bool {
		if seen > rotations/2 && !killed {
			manager.Kill()
			fx.manage(t)
			killed = true
		}
		return l.enough() && (seen > rotations || len(l.failures) > 0)
	})
	cancel()
	l.end(t, len(tokens))
	fx.answers(t, "Bearer "+tokens[0], 401, fixture.CallerSecret)
	fx.tokensAreNotLogged(t, tokens)
}

// watchTokens reads the Secret until enough was seen, and gives the tokens that were in use, in order. It fails the test when
// more than two could be accepted.
func (fx environment) watchTokens(ctx context.Context, t *testing.T, enough func(seen int) bool) []string {
	t.Helper()
	client := fx.client(t).CoreV1().Secrets(fixture.ServiceNamespace)
	var tokens []string
	for ctx.Err() == nil && !enough(len(tokens)) {
		secret, err := client.Get(ctx, fixture.CallerSecret, metav1.GetOptions{})
		if err != nil {
			if ctx.Err() == nil {
				t.Error(err)
			}
			break
		}
		state := callertoken.Parse(secret.Data, secret.Annotations)
		if state.Next != "" && state.Previous != "" {
			t.Error("there are three tokens")
		}
		if len(tokens) == 0 || tokens[len(tokens)-1] != state.Token {
			tokens = append(tokens, state.Token)
		}
		time.Sleep(200 * time.Millisecond)
	}
	return tokens
}

// tokensAreNotLogged looks into what the service, the certificate managers and Kyverno wrote.
func (fx environment) tokensAreNotLogged(t *testing.T, tokens []string) {
	t.Helper()
	kyverno, err := os.ReadFile(fx.Bed.LogFile(bed.Kyverno))
	if err != nil {
		t.Fatal(err)
	}
	logs := map[string]string{"Kyverno": string(kyverno)}
	for i, r := range fx.Replicas {
		logs[fmt.Sprint("replica ", i)] = r.Logged()
	}
	for name, log := range logs {
		for _, token := range tokens {
			if log == "" || strings.Contains(log, token) {
				t.Errorf("%s logs nothing, or a token", name)
			}
		}
	}
}

// TestAccountTokensAreReplacedUnderLoad gives Kyverno another token of its account again and again, as the kubelet does,
// while its ClusterPolicy asks.
func TestAccountTokensAreReplacedUnderLoad(t *testing.T) {
	fx := shared
	fx.TwoTenants(t)
	fx.Install(t, fixture.Policies{Samples: []string{"clusterpolicy.yaml"}})
	fx.admits(t, deployment.Patience)
	ctx, cancel := context.WithTimeout(t.Context(), loadTime)
	defer cancel()
	l := fx.startLoad(ctx, t)
	file, replaced := fx.Bed.KyvernoTokenFile(), 0
	for ctx.Err() == nil && !(l.enough() && replaced > rotations) {
		token := fx.Token(t, bed.KyvernoNamespace, bed.KyvernoServiceAccount, bed.KyvernoAudience)
		if err := errors.Join(os.WriteFile(file+".new", []byte(token), 0o600), os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
		replaced++
		time.Sleep(time.Second)
	}
	cancel()
	l.end(t, replaced)
}

// TestRevokedTokens deletes the Secret, then writes a token by hand that might be guessed: the old one is refused at once, and
// the policies soon send another one.
func TestRevokedTokens(t *testing.T) {
	fx := shared
	fx.withPolicies(t)
	fx.Apply(t, fx.callersSample(t))
	fx.manage(t)
	fx.admits(t, deployment.Patience)
	for sentence, revoke := range map[string][]string{
		"the Secret is deleted": {"delete", "secret", fixture.CallerSecret, "-n", fixture.ServiceNamespace},
		"the token is emptied":  {"patch", "secret", fixture.CallerSecret, "-n", fixture.ServiceNamespace, "--type=merge", "-p", `{"stringData":{"token":""}}`},
		"the token is a word":   {"patch", "secret", fixture.CallerSecret, "-n", fixture.ServiceNamespace, "--type=merge", "-p", `{"stringData":{"token":"changeme"}}`},
	} {
		t.Run(sentence, func(t *testing.T) {
			before := fx.CallerToken(t)
			fx.Kubectl(t, "", revoke...)
			fx.answers(t, "Bearer "+before, 401, fixture.CallerSecret)
			fx.answers(t, "Bearer changeme", 401, fixture.CallerSecret)
			fx.admits(t, deployment.Patience)
			if fx.CallerToken(t) == before {
				t.Error("the token is the same")
			}
		})
	}
}

// TestATokenOfOnesOwn is written as the next one, and comes into use without a failed call.
func TestATokenOfOnesOwn(t *testing.T) {
	fx := shared
	fx.withPolicies(t)
	fx.Apply(t, fx.callersSample(t))
	fx.manage(t)
	fx.admits(t, deployment.Patience)
	own := strings.Repeat("0123456789", 4)
	if err := deployment.Eventually(t.Context(), time.Minute, func() error { // between two rotations
		if keys := fx.Kubectl(t, "", "get", "secret", fixture.CallerSecret, "-n", fixture.ServiceNamespace, "-o", "jsonpath={.data.next}{.data.previous}"); keys != "" {
			return errors.New("there are two tokens")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	fx.Kubectl(t, "", "patch", "secret", fixture.CallerSecret, "-n", fixture.ServiceNamespace, "--type=merge", "-p", `{"stringData":{"next":"`+own+`"}}`)
	client, want := fx.client(t), fx.Pinned(t, "signed")
	for end := time.Now().Add(time.Minute); fx.CallerToken(t) != own; {
		if got, err := admit(t.Context(), client, fx.Reference("signed")); err != nil || got != want {
			t.Fatalf("%s, %v", got, err)
		}
		if time.Now().After(end) {
			t.Fatal("it does not come into use")
		}
	}
	fx.answers(t, "Bearer "+own, 200, "")
}

// TestTheTokenIsFollowedAfterRestarts replaces the token after the API server, and after Kyverno, were away.
func TestTheTokenIsFollowedAfterRestarts(t *testing.T) {
	fx := shared
	fx.withPolicies(t)
	fx.Apply(t, fx.callersSample(t))
	fx.manage(t)
	fx.admits(t, deployment.Patience)
	for sentence, restart := range map[string]func() error{
		"the API server": func() error {
			err := fx.Bed.StopAPIServer()
			time.Sleep(3 * time.Second)
			return errors.Join(err, fx.Bed.StartAPIServer(t.Context()), fx.Bed.WaitKyverno(t.Context()))
		},
		"Kyverno": func() error { return errors.Join(fx.Bed.StopKyverno(), fx.Bed.StartKyverno(t.Context())) },
	} {
		t.Run(sentence, func(t *testing.T) {
			if err := restart(); err != nil {
				t.Fatal(err)
			}
			fx.admits(t, time.Minute)
			before := fx.CallerToken(t)
			fx.Kubectl(t, "", "delete", "secret", fixture.CallerSecret, "-n", fixture.ServiceNamespace)
			fx.answers(t, "Bearer "+before, 401, fixture.CallerSecret) // until a replica knows, it takes the old one
			fx.admits(t, time.Minute)
			if fx.CallerToken(t) == before {
				t.Error("the token is the same")
			}
		})
	}
}
