package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// googleTokens gives access tokens of Google: of the application's default credentials (a key in a file, workload identity or
// the metadata server), or else of the command gcloud, where a person has it. A token is used until it expires. The zero value
// is ready.
type googleTokens struct {
	mu     sync.Mutex
	source oauth2.TokenSource // nil until one gave a token
}

// The user that Google's registries want beside an access token, and its scope.
const (
	googleUser  = "_token"
	googleScope = "https://www.googleapis.com/auth/cloud-platform"
)

// credential gives a token; an empty credential where this machine has none, so that access is anonymous.
func (g *googleTokens) credential(string) (auth.Credential, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.source == nil {
		g.source = googleSource()
	}
	if g.source == nil {
		return auth.EmptyCredential, nil
	}
	token, err := g.source.Token()
	if err != nil {
		return auth.EmptyCredential, err
	}
	return auth.Credential{Username: googleUser, Password: token.AccessToken}, nil
}

// googleSource gives the first source that has a token now, or nil.
func googleSource() oauth2.TokenSource {
	if source, err := google.DefaultTokenSource(context.Background(), googleScope); err == nil { // it lives on, so it has no deadline
		if token, err := source.Token(); err == nil {
			return oauth2.ReuseTokenSource(token, source)
		}
	}
	if token, err := (gcloud{}).Token(); err == nil {
		return oauth2.ReuseTokenSource(token, gcloud{})
	}
	return nil
}

// gcloud gives the tokens of the command.
type gcloud struct{}

// gcloudTimeout is how long the command may take; it asks Google for a token.
const gcloudTimeout = 30 * time.Second

// Token is part of oauth2.TokenSource. The token is fresh, so that it can be used for about an hour.
func (gcloud) Token() (*oauth2.Token, error) {
	ctx, cancel := context.WithTimeout(context.Background(), gcloudTimeout)
	defer cancel()
	output, err := exec.CommandContext(ctx, "gcloud", "config", "config-helper", "--force-auth-refresh", "--format=json(credential)").Output()
	if err != nil {
		return nil, fmt.Errorf("gcloud: %w", err)
	}
	var said struct {
		Credential struct {
			Token  string    `json:"access_token"`
			Expiry time.Time `json:"token_expiry"`
		} `json:"credential"`
	}
	if err := json.Unmarshal(output, &said); err != nil || said.Credential.Token == "" || said.Credential.Expiry.IsZero() {
		return nil, errors.New("gcloud answers without a token and the time when it expires")
	}
	return &oauth2.Token{AccessToken: said.Credential.Token, Expiry: said.Credential.Expiry}, nil
}
