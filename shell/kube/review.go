package kube

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"golang.org/x/sync/semaphore"
	authentication "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/nirmata/kyverno-notation-venafi/shell/flight"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// Why a caller is refused. Any other error of a review means that the API server could not be asked, or gave no answer.
var (
	ErrUnauthenticated = errors.New("the caller is not authenticated")
	ErrForbidden       = errors.New("the caller is not allowed to ask")
)

// Bounds on reviews.
const (
	reviewTimeout = 3 * time.Second
	acceptedFor   = time.Minute    // at most; less when the token expires before
	earlierFor    = 24 * time.Hour // an acceptance that does not count any more
	refusedFor    = 5 * time.Second
	renewalRetry  = 5 * time.Second // between two tries to review an accepted token again
	reviewsKept   = 1024            // of accepted and of refused tokens each, so that bad ones do not evict good ones
	maxToken      = 16 << 10        // bytes

	reviewsPerSecond = 50 // of a rate lane
	reviewsBurst     = 100
	reviewsAtOnce    = 16
)

// ReviewerOptions say which callers are allowed. The zero value allows none.
type ReviewerOptions struct {
	Audiences    []string // a token must be for one of them
	AllowedUsers []string // such as system:serviceaccount:kyverno:kyverno-admission-controller; a "*" at the end matches any rest
}

// Reviewer authenticates callers by their bearer tokens, through the API server's TokenReview.
type Reviewer struct {
	options  ReviewerOptions
	review   func(context.Context, *authentication.TokenReview) (*authentication.TokenReview, error)
	flights  flight.Group[tokenHash, reviewed]
	accepted *ttlcache.Cache[tokenHash, *acceptance]
	refused  *ttlcache.Cache[tokenHash, error]

	// Tokens that were accepted earlier wait behind no others, and those whose claims name an allowed service account, which anyone can
	// write, not behind the rest.
	known, allowed, others rateLane
}

// acceptance is the result for an accepted token. While the token is in use it is reviewed again before the result expires,
// so that known callers do not wait behind a flood of unknown tokens. After that it tells that the token is none that was forged.
type acceptance struct {
	user  string
	until time.Time    // it counts
	renew atomic.Int64 // when to review it again; nanoseconds since 1970
}

// rateLane bounds how many token reviews are sent per second and at the same time.
type rateLane struct {
	rate  flowcontrol.RateLimiter
	seats *semaphore.Weighted
}

func newRateLane() rateLane {
	return rateLane{flowcontrol.NewTokenBucketRateLimiter(reviewsPerSecond, reviewsBurst), semaphore.NewWeighted(reviewsAtOnce)}
}

// acquire waits for a seat. It fails at once where the wait would outlast ctx.
func (l rateLane) acquire(ctx context.Context) error {
	if err := l.rate.Wait(ctx); err != nil {
		return fmt.Errorf("too many tokens wait for it: %w", err)
	}
	return l.seats.Acquire(ctx, 1)
}

func (l rateLane) release() { l.seats.Release(1) }

// tokenHash is kept instead of a token.
type tokenHash [sha256.Size]byte

// NewReviewer makes a reviewer. Nothing runs in the background but reviews in progress.
func NewReviewer(client *kubeclient.Client, options ReviewerOptions) *Reviewer {
	return newReviewer(func(ctx context.Context, review *authentication.TokenReview) (*authentication.TokenReview, error) {
		return client.Reviews.Create(ctx, review, metav1.CreateOptions{})
	}, options)
}

func newReviewer(review func(context.Context, *authentication.TokenReview) (*authentication.TokenReview, error), options ReviewerOptions) *Reviewer {
	return &Reviewer{
		options: options, review: review,
		flights:  flight.Group[tokenHash, reviewed]{Timeout: reviewTimeout, GoesOn: true},
		accepted: ttlcache.New(ttlcache.WithCapacity[tokenHash, *acceptance](reviewsKept), ttlcache.WithDisableTouchOnHit[tokenHash, *acceptance]()),
		refused:  ttlcache.New(ttlcache.WithCapacity[tokenHash, error](reviewsKept), ttlcache.WithDisableTouchOnHit[tokenHash, error]()),
		known:    newRateLane(),
		allowed:  newRateLane(),
		others:   newRateLane(),
	}
}

// Review gives the user whose token an Authorization header carries. The error is ErrUnauthenticated, ErrForbidden, or
// another one when the API server gave no answer. Concurrent reviews of one token share one request; a caller that gives up
// does not fail the others.
func (r *Reviewer) Review(ctx context.Context, authorization string) (string, error) {
	token, err := bearerToken(authorization)
	if err != nil {
		return "", err
	}
	key := tokenHash(sha256.Sum256([]byte(token)))
	if known := r.accepted.Get(key); known != nil && time.Now().Before(known.Value().until) {
		r.renew(ctx, key, token, known.Value())
		return known.Value().user, nil
	}
	if known := r.refused.Get(key); known != nil {
		return "", known.Value()
	}
	if err := r.options.rejectUnasked(token, time.Now()); err != nil {
		return "", err
	}
	result, ok := r.flights.Do(ctx, key, func(ctx context.Context) reviewed {
		user, err := r.reviewUnknown(ctx, key, token)
		return reviewed{user, err}
	})
	if !ok {
		return "", fmt.Errorf("token review: %w", ctx.Err())
	}
	return result.user, result.err
}

// reviewed is the result of a review.
type reviewed struct {
	user string
	err  error
}

// renew reviews an accepted token again in the background, when it is time to. Accepted tokens are few, so no rate lane
// bounds this.
func (r *Reviewer) renew(ctx context.Context, key tokenHash, token string, known *acceptance) {
	now, due := time.Now(), known.renew.Load()
	if now.UnixNano() < due || !known.renew.CompareAndSwap(due, now.Add(renewalRetry).UnixNano()) {
		return
	}
	go r.flights.Do(context.WithoutCancel(ctx), key, func(ctx context.Context) reviewed {
		user, err := r.ask(ctx, key, token)
		return reviewed{user, err}
	})
}

// reviewUnknown reviews a token of which there is no recent result, within the bounds of its rate lane.
func (r *Reviewer) reviewUnknown(ctx context.Context, key tokenHash, token string) (string, error) {
	lane := r.others
	switch {
	case r.accepted.Get(key) != nil:
		lane = r.known
	case r.options.claimsAllowed(token):
		lane = r.allowed
	}
	if err := lane.acquire(ctx); err != nil {
		return "", fmt.Errorf("token review: %w", err)
	}
	defer lane.release()
	return r.ask(ctx, key, token)
}

// bearerToken takes the token out of an Authorization header (RFC 6750, section 2.1).
func bearerToken(authorization string) (string, error) {
	scheme, token, _ := strings.Cut(authorization, " ")
	token = strings.Trim(token, " ")
	switch {
	case authorization == "":
		return "", fmt.Errorf("%w: send a bearer token", ErrUnauthenticated)
	case !strings.EqualFold(scheme, "Bearer"), token == "", strings.ContainsAny(token, " \t\r\n"):
		return "", fmt.Errorf("%w: the Authorization header is not \"Bearer <token>\"", ErrUnauthenticated)
	case len(token) > maxToken:
		return "", fmt.Errorf("%w: the token is over %d bytes", ErrUnauthenticated, maxToken)
	}
	return token, nil
}

// ask has the API server review a token, and keeps a definitive result.
func (r *Reviewer) ask(ctx context.Context, key tokenHash, token string) (string, error) {
	answer, err := r.review(ctx, &authentication.TokenReview{
		Spec: authentication.TokenReviewSpec{Token: token, Audiences: r.options.Audiences},
	})
	if err != nil {
		return "", fmt.Errorf("token review: %w", err)
	}
	if err := r.check(answer.Status); err != nil {
		r.refused.Set(key, err, refusedFor)
		r.accepted.Delete(key)
		return "", err
	}
	r.accept(key, token, answer.Status.User.Username)
	return answer.Status.User.Username, nil
}

func (r *Reviewer) accept(key tokenHash, token, user string) {
	now, lasts := time.Now(), acceptedFor
	if c, ok := claimsOf(token); ok {
		lasts = c.expiresIn(now)
	}
	accepted := &acceptance{user: user, until: now.Add(lasts)}
	accepted.renew.Store(now.Add(lasts * 3 / 4).UnixNano())
	r.accepted.Set(key, accepted, earlierFor)
}

// check decides on the API server's answer. An API server that does not know audiences leaves them out of the answer; such a
// token may be for someone else and is refused (TokenReviewStatus.Audiences).
func (r *Reviewer) check(status authentication.TokenReviewStatus) error {
	forUs := slices.ContainsFunc(status.Audiences, func(a string) bool { return slices.Contains(r.options.Audiences, a) })
	switch {
	case !status.Authenticated:
		return fmt.Errorf("%w: the API server does not accept the token for the audience %s", ErrUnauthenticated, strings.Join(r.options.Audiences, ", "))
	case !forUs:
		return fmt.Errorf("%w: the token is not for the audience %s", ErrUnauthenticated, strings.Join(r.options.Audiences, ", "))
	case !r.options.allows(status.User.Username):
		return fmt.Errorf("%w: %q is not among the allowed users", ErrForbidden, status.User.Username)
	}
	return nil
}

func (o ReviewerOptions) allows(user string) bool {
	return slices.ContainsFunc(o.AllowedUsers, func(allowed string) bool {
		if prefix, any := strings.CutSuffix(allowed, "*"); any {
			return strings.HasPrefix(user, prefix)
		}
		return user == allowed
	})
}
