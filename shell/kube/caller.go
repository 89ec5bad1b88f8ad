package kube

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"log/slog"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Keys of the caller Secret. Both tokens are valid, so that one can be replaced while the other is in use.
const (
	keyToken         = "token"
	keyPreviousToken = "previous"
)

// shortestCallerToken is what nobody guesses, where it is random letters and digits; bytes.
const shortestCallerToken = 26

// CallerSecret watches the Secret whose bearer tokens callers may send that have none of their own account, as Kyverno's
// CEL policies. It need not exist.
type CallerSecret struct {
	client *Client
	log    *slog.Logger
	link   *link
	secret *one[callerTokens]
}

// callerTokens stand for the tokens that are valid, so that none is kept.
type callerTokens struct {
	valid    []tokenHash
	problems []string
}

// NewCallerSecret prepares; Watch does the work.
func NewCallerSecret(client *Client, namespace, name string, log *slog.Logger) *CallerSecret {
	s := &CallerSecret{client: client, log: log, secret: watchOne("secrets", namespace, name, decodeCallerTokens)}
	s.secret.mirror.changed = s.tell
	s.link = newLink(log, "caller token", s.secret.target)
	return s
}

// Watch follows the Secret until ctx ends. Run it once.
func (s *CallerSecret) Watch(ctx context.Context) {
	s.client.watch(ctx, s.secret.target, &s.secret.mirror, s.link.report)
}

// Synced tells whether the API server answered, be it that the Secret does not exist.
func (s *CallerSecret) Synced() bool { return s.secret.answered(s.link) }

// Connected tells whether changes are being seen.
func (s *CallerSecret) Connected() bool { return s.link.connected() }

// knows tells whether a token is one of the Secret's. How long that takes tells nothing about them.
func (s *CallerSecret) knows(token string) bool {
	tokens, _ := s.secret.get()
	sent, equal := sha256.Sum256([]byte(token)), 0
	for _, valid := range tokens.valid {
		equal |= subtle.ConstantTimeCompare(sent[:], valid[:])
	}
	return equal == 1
}

func (s *CallerSecret) tell() {
	tokens, exists := s.secret.get()
	if !exists {
		s.log.Warn("the caller Secret does not exist; CEL policies cannot call", "secret", s.secret.name, "namespace", s.secret.namespace)
		return
	}
	for _, problem := range tokens.problems {
		s.log.Error("a token of the caller Secret cannot be used", "secret", s.secret.name, "namespace", s.secret.namespace, "reason", problem)
	}
	s.log.Info("caller Secret loaded", "secret", s.secret.name, "namespace", s.secret.namespace, "tokens", len(tokens.valid))
}

// decodeCallerTokens takes those that an Authorization header can carry and that are long enough.
func decodeCallerTokens(object *unstructured.Unstructured) callerTokens {
	content, err := decodeSecret(object)
	if err != nil {
		return callerTokens{problems: []string{"the Secret's data cannot be decoded"}}
	}
	var tokens callerTokens
	for _, key := range []string{keyToken, keyPreviousToken} {
		value, exists := content.Data[key]
		if !exists && key == keyPreviousToken {
			continue
		}
		token, err := bearerToken("Bearer " + string(value))
		switch {
		case err != nil || token != string(value):
			tokens.problems = append(tokens.problems, fmt.Sprintf("the key %s is missing, empty, or holds blanks or a line break", key))
		case len(token) < shortestCallerToken:
			tokens.problems = append(tokens.problems, fmt.Sprintf("the key %s has fewer than %d characters and might be guessed", key, shortestCallerToken))
		default:
			tokens.valid = append(tokens.valid, sha256.Sum256(value))
		}
	}
	return tokens
}

// Callers lets those ask who send a token of the caller Secret, and those whom the API server vouches for.
type Callers struct {
	secret *CallerSecret // nil for none
	review *Reviewer
}

// NewCallers makes it; secret may be nil.
func NewCallers(secret *CallerSecret, review *Reviewer) *Callers { return &Callers{secret, review} }

// Review gives who calls by an Authorization header. The error is as that of Reviewer.Review.
func (c *Callers) Review(ctx context.Context, authorization string) (string, error) {
	if c.secret != nil {
		if token, err := bearerToken(authorization); err == nil && c.secret.knows(token) {
			return "secret:" + c.secret.secret.namespace + ":" + c.secret.secret.name, nil
		}
	}
	return c.review.Review(ctx, authorization)
}

// withCallerToken fills a Secret that is made because there is none. The token has 130 random bits.
func withCallerToken(secret *unstructured.Unstructured) *unstructured.Unstructured {
	secret.Object["type"] = "Opaque"
	secret.Object["data"] = map[string]any{keyToken: base64.StdEncoding.EncodeToString([]byte(rand.Text()))}
	return secret
}
