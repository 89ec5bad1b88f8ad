package registry

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/jellydator/ttlcache/v3"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// Bounds on the challenges that are kept for one registry.
const (
	maxChallenges = 16   // credentials whose challenge is kept
	maxChallenge  = 1024 // bytes of a challenge, which the registry chooses
)

// challenges keeps the challenge that a registry answered with and that a credential met, so that the first request for the
// next repository need not be refused. It is kept by credential: so a credential is sent to no other token endpoint than
// the registry had it sent to before, and no challenge for the repositories of one tenant meets another's credential.
type challenges struct {
	known *ttlcache.Cache[credentialKey, challenge]
}

// credentialKey stands for a credential; the credential itself is not kept.
type credentialKey [sha256.Size]byte

// challenge is one without the name of the repository that it was for.
type challenge struct {
	before, after string // what stands around that name
	named         bool   // whether it was in it, as it is in a scope
}

func newChallenges() *challenges {
	return &challenges{ttlcache.New(ttlcache.WithTTL[credentialKey, challenge](tokenFor), ttlcache.WithCapacity[credentialKey, challenge](maxChallenges),
		ttlcache.WithDisableTouchOnHit[credentialKey, challenge]())}
}

func keyOf(credential auth.Credential) credentialKey {
	return sha256.Sum256(fmt.Appendf(nil, "%q", credential)) // quoted, so that no two are written alike
}

// expect gives the challenge for a repository; "" where none is known.
func (c *challenges) expect(credential auth.Credential, repository string) string {
	item := c.known.Get(keyOf(credential))
	switch {
	case item == nil:
		return ""
	case !item.Value().named:
		return item.Value().before
	}
	return item.Value().before + repository + item.Value().after
}

// keep keeps a challenge for a repository that a credential met. One that has the repository's name elsewhere than in a
// scope is for that repository alone.
func (c *challenges) keep(credential auth.Credential, repository, text string) {
	if len(text) > maxChallenge {
		return
	}
	const scope = "repository:"
	before, after, named := strings.Cut(text, scope+repository+":")
	if named {
		before, after = before+scope, ":"+after
	}
	if strings.Contains(before, repository) || strings.Contains(after, repository) || strings.Count(text, scope) > 1 || !named && strings.Contains(text, scope) {
		return
	}
	c.known.Set(keyOf(credential), challenge{before, after, named}, ttlcache.DefaultTTL)
}

func (c *challenges) forget(credential auth.Credential) { c.known.Delete(keyOf(credential)) }

// expectation is the transport of one request to a registry. It answers the request by the challenge that the registry is
// expected to refuse it with, as long as it carries no proof of who sends it. What the registry itself refuses it with is
// kept once its challenge was met.
type expectation struct {
	next       http.RoundTripper
	challenges *challenges
	credential func(context.Context) (auth.Credential, error)
	repository string
	at         string // the request's URL

	expected bool   // the request was answered so
	asked    bool   // the registry was asked
	refused  string // the challenge of the registry itself; "" for none
}

// RoundTrip is part of http.RoundTripper. Requests for tokens and redirected ones just pass, as they may be those of others
// who wait for the same token.
func (e *expectation) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Response != nil || request.URL.String() != e.at {
		return e.next.RoundTrip(request)
	}
	proof := request.Header.Get("Authorization") != ""
	if !proof && !e.expected {
		if text := e.expect(request.Context()); text != "" {
			e.expected = true
			return refusal(request, text), nil
		}
	}
	e.asked = true
	response, err := e.next.RoundTrip(request)
	switch {
	case err != nil:
	case !proof && response.StatusCode == http.StatusUnauthorized:
		e.refused = response.Header.Get("WWW-Authenticate")
	case proof && response.StatusCode < http.StatusBadRequest && e.refused != "":
		if credential, err := e.credential(request.Context()); err == nil {
			e.challenges.keep(credential, e.repository, e.refused)
		}
	}
	return response, err
}

func (e *expectation) expect(ctx context.Context) string {
	if e.challenges.known.Len() == 0 {
		return ""
	}
	credential, err := e.credential(ctx)
	if err != nil { // whoever is refused is told
		return ""
	}
	return e.challenges.expect(credential, e.repository)
}

// failed tells whether an expected challenge led to nothing, so that the request has to be sent without: the registry may
// want nothing for this repository, or name another token endpoint by now.
func (e *expectation) failed(response *http.Response, err error) bool {
	if !e.expected {
		return false
	}
	if err != nil {
		return !e.asked
	}
	switch response.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return true
	}
	return false
}

// refusal is the answer that a registry refuses a request with.
func refusal(request *http.Request, challenge string) *http.Response {
	return &http.Response{
		Status: "401 Unauthorized", StatusCode: http.StatusUnauthorized, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Www-Authenticate": {challenge}}, Body: http.NoBody, Request: request,
	}
}

// send sends a request with the credentials that the registry demands. Where it is known what it demands, it is not asked
// for that first.
func (r *reader) send(request *http.Request) (*http.Response, error) {
	ctx, credential := request.Context(), func(ctx context.Context) (auth.Credential, error) { return r.client.Credential(ctx, r.root.Host) }
	trip := &expectation{next: r.client.Client.Transport, challenges: r.host.challenges, credential: credential, repository: r.repository, at: request.URL.String()}
	client, web := *r.client, *r.client.Client
	web.Transport, client.Client = trip, &web
	response, err := client.Do(request)
	if !trip.failed(response, err) || ctx.Err() != nil {
		return response, err
	}
	if err == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxExplanation)) // so that the connection can be used again
		_ = response.Body.Close()
	}
	if known, err := credential(ctx); err == nil {
		r.host.challenges.forget(known)
	}
	r.host.tokens.forget(r.root.Host, r.repository, auth.GetAllScopesForHost(ctx, r.root.Host))
	return r.client.Do(request)
}

// remembered asks for a credential until it got one, and gives that from then on.
func remembered(ask func(context.Context) (auth.Credential, error)) func(context.Context) (auth.Credential, error) {
	var mu sync.Mutex
	var known *auth.Credential
	return func(ctx context.Context) (auth.Credential, error) {
		mu.Lock()
		defer mu.Unlock()
		if known != nil {
			return *known, nil
		}
		credential, err := ask(ctx)
		if err == nil {
			known = &credential
		}
		return credential, err
	}
}
