package kube

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"

	core "k8s.io/api/core/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/callertoken"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// CallerSecret watches the Secret with the bearer tokens for callers that cannot send a service account's token, such as
// Kyverno's CEL policies. The Secret need not exist.
type CallerSecret struct {
	client *kubeclient.Client
	log    *slog.Logger
	health *kubeclient.Health
	secret *kubeclient.Object[callerTokens]
}

// callerTokens holds hashes of the valid tokens, so that no token stays in memory.
type callerTokens struct {
	valid    []tokenHash
	problems []string
}

// NewCallerSecret prepares; Watch does the work.
func NewCallerSecret(client *kubeclient.Client, namespace, name string, log *slog.Logger) *CallerSecret {
	s := &CallerSecret{client: client, log: log, secret: kubeclient.NewSecret(namespace, name, decodeCallerTokens)}
	s.secret.OnChange(s.logTokens)
	s.health = kubeclient.NewHealth(log, "caller token", s.secret.Target)
	return s
}

// Watch follows the Secret until ctx ends. Run it once.
func (s *CallerSecret) Watch(ctx context.Context) {
	s.secret.Watch(ctx, s.client, s.health)
}

// Synced reports whether the API server answered, even if only that the Secret does not exist.
func (s *CallerSecret) Synced() bool { return s.secret.Answered(s.health) }

// Connected reports whether changes are being seen.
func (s *CallerSecret) Connected() bool { return s.health.Connected() }

// contains reports whether a token is one of the Secret's. It takes the same time for every token, since it compares digests
// and goes on after a match.
func (s *CallerSecret) contains(token string) bool {
	tokens, _ := s.secret.Get()
	sent, equal := sha256.Sum256([]byte(token)), 0
	for _, valid := range tokens.valid {
		equal |= subtle.ConstantTimeCompare(sent[:], valid[:])
	}
	return equal == 1
}

func (s *CallerSecret) logTokens() {
	tokens, exists := s.secret.Get()
	if !exists {
		s.log.Warn("the caller Secret does not exist; CEL policies cannot call", "secret", s.secret.Name, "namespace", s.secret.Namespace)
		return
	}
	for _, problem := range tokens.problems {
		s.log.Error("a token of the caller Secret cannot be used", "secret", s.secret.Name, "namespace", s.secret.Namespace, "reason", problem)
	}
	s.log.Info("caller Secret loaded", "secret", s.secret.Name, "namespace", s.secret.Namespace, "tokens", len(tokens.valid))
}

// decodeCallerTokens takes the tokens that package callertoken accepts, and says what is wrong with the others.
func decodeCallerTokens(secret *core.Secret) callerTokens {
	var tokens callerTokens
	for _, token := range callertoken.Parse(secret.Data, nil).Accepted() {
		tokens.valid = append(tokens.valid, sha256.Sum256([]byte(token)))
	}
	for _, key := range []string{callertoken.KeyToken, callertoken.KeyPrevious, callertoken.KeyNext} {
		value, exists := secret.Data[key]
		if flaw := callertoken.Flaw(string(value)); flaw != "" && (exists || key == callertoken.KeyToken) {
			tokens.problems = append(tokens.problems, "the key "+key+" "+flaw)
		}
	}
	return tokens
}

// Callers authenticates callers by a token of the caller Secret, or else by a review of the API server.
type Callers struct {
	secret *CallerSecret // nil for none
	review *Reviewer
}

// NewCallers makes it; secret may be nil.
func NewCallers(secret *CallerSecret, review *Reviewer) *Callers { return &Callers{secret, review} }

// Review gives the caller's name by an Authorization header. Errors are those of Reviewer.Review.
func (c *Callers) Review(ctx context.Context, authorization string) (string, error) {
	token, err := bearerToken(authorization)
	if err != nil || c.secret == nil {
		return c.review.Review(ctx, authorization)
	}
	if c.secret.contains(token) {
		return "secret:" + c.secret.secret.Namespace + ":" + c.secret.secret.Name, nil
	}
	user, err := c.review.Review(ctx, authorization)
	if errors.Is(err, ErrUnauthenticated) {
		err = fmt.Errorf("%w, nor does the Secret %s hold it", err, c.secret.secret.Name)
	}
	return user, err
}
