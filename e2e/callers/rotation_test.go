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
	"k8s.io/client-go/kubernetes"

	"github.com/nirmata/kyverno-notation-venafi/core/callertoken"
	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
)

const (
	admissions = 2000 // under load, at least; each is two calls of the service
	rotations  = 4    // meanwhile, at least
	workers    = 4
)

// TestRotationUnderLoad replaces the token again and again while Kyverno's policies ask; one certificate manager is killed
// meanwhile, and another one goes on. No call fails.
func TestRotationUnderLoad(t *testing.T) {
	fx := shared
	fx.withPolicies(t)
	fx.Apply(t, fx.callersSample(t))
	manager := fx.manage(t)
	fx.admits(t, 30*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	var admitted, denied atomic.Int64
	failures := make(chan error, workers)
	var load sync.WaitGroup
	client, want := fx.client(t), fx.Pinned(t, "signed")
	for range workers {
		load.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				err := ask(ctx, client, fx, want, i%10 == 9, &admitted, &denied)
				if err != nil && ctx.Err() == nil {
					failures <- err
					cancel()
				}
			}
		})
	}
	tokens := fx.watchTokens(ctx, t, func(seen int) bool {
		if seen == rotations/2 && manager != nil {
			manager.Kill()
			manager = nil
			fx.manage(t)
		}
		return seen > rotations && admitted.Load()+denied.Load() >= admissions
	})
	cancel()
	load.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	t.Logf("%d admitted, %d denied, %d tokens", admitted.Load(), denied.Load(), len(tokens))
	if admitted.Load()+denied.Load() < admissions || len(tokens) <= rotations {
		t.Errorf("%d admitted, %d denied, %d tokens: too few", admitted.Load(), denied.Load(), len(tokens))
	}
	fx.answers(t, "Bearer "+tokens[0], 401, fixture.CallerSecret)
	fx.tokensAreNotLogged(t, tokens)
}

// ask asks for one admission: of a signed image, or of an unsigned one, which must be denied for its signature.
func ask(ctx context.Context, client kubernetes.Interface, fx environment, want string, unsigned bool, admitted, denied *atomic.Int64) error {
	name := "signed"
	if unsigned {
		name = "unsigned"
	}
	got, err := admit(ctx, client, fx.Reference(name))
	switch {
	case unsigned && err != nil && strings.Contains(err.Error(), "no signature is associated with"):
		denied.Add(1)
		return nil
	case !unsigned && err == nil && got == want:
		admitted.Add(1)
		return nil
	}
	return fmt.Errorf("%s: %s, %w", name, got, err)
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
	fx.WithPolicy(t, "clusterpolicy.yaml", "verify-images")
	fx.admits(t, 30*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	var admitted, denied atomic.Int64
	failures := make(chan error, workers)
	var load sync.WaitGroup
	client, want := fx.client(t), fx.Pinned(t, "signed")
	for range workers {
		load.Go(func() {
			for i := 0; ctx.Err() == nil && admitted.Load()+denied.Load() < admissions; i++ {
				if err := ask(ctx, client, fx, want, i%10 == 9, &admitted, &denied); err != nil && ctx.Err() == nil {
					failures <- err
					cancel()
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		load.Wait()
		close(ended)
	}()
	replaced := 0
	for running := true; running; {
		token, err := fx.Bed.Token(t.Context(), bed.KyvernoNamespace, bed.KyvernoServiceAccount, bed.KyvernoAudience)
		file := fx.Bed.KyvernoTokenFile()
		if err := errors.Join(err, os.WriteFile(file+".new", []byte(token), 0o600), os.Rename(file+".new", file)); err != nil {
			t.Error(err)
			cancel()
		}
		replaced++
		select {
		case <-ended:
			running = false
		case <-time.After(time.Second):
		}
	}
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	t.Logf("%d admitted, %d denied, %d tokens", admitted.Load(), denied.Load(), replaced)
	if admitted.Load()+denied.Load() < admissions || replaced < rotations {
		t.Errorf("%d admitted, %d denied, %d tokens: too few", admitted.Load(), denied.Load(), replaced)
	}
}

// TestRevokedTokens deletes the Secret, then writes a token by hand that might be guessed: the old one is refused at once, and
// the policies soon send another one.
func TestRevokedTokens(t *testing.T) {
	fx := shared
	fx.withPolicies(t)
	fx.Apply(t, fx.callersSample(t))
	fx.manage(t)
	fx.admits(t, 30*time.Second)
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
			fx.admits(t, 30*time.Second)
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
	fx.admits(t, 30*time.Second)
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
	fx.admits(t, 30*time.Second)
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
			fx.Kubectl(t, "", "delete", "secret", fixture.CallerSecret, "-n", fixture.ServiceNamespace)
			fx.admits(t, time.Minute)
		})
	}
}
