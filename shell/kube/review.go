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
	"golang.org/x/sync/singleflight"
	authentication "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/flowcontrol"
)

// Why a caller is refused. Any other error of a review means that the API server could not be asked.
var (
	ErrUnauthenticated = errors.New("the caller is not authenticated")
	ErrForbidden       = errors.New("the caller is not allowed to ask")
)

// Bounds on reviews.
const (
	reviewTimeout = 3 * time.Second
	acceptedFor   = time.Minute // at most; less when the token expires before
	refusedFor    = 5 * time.Second
	renewalAgain  = 5 * time.Second // while that fails
	reviewsKept   = 1024            // of accepted and of refused tokens each, so that bad ones do not push out good ones
	maxToken      = 16 << 10        // bytes

	reviewsPerSecond = 50 // of a lane
	reviewsBurst     = 100
	reviewsAtOnce    = 16
)

// ReviewerOptions say whom to let in. Their zero value lets nobody in.
type ReviewerOptions struct {
	Audiences    []string // a token must be for one of them
	AllowedUsers []string // such as system:serviceaccount:kyverno:kyverno-admission-controller; "*" at the end for any that begins so
}

// Reviewer authenticates callers by their bearer tokens, through the API server's TokenReview.
type Reviewer struct {
	options  ReviewerOptions
	review   func(context.Context, *authentication.TokenReview) (*authentication.TokenReview, error)
	flights  singleflight.Group
	accepted *ttlcache.Cache[tokenHash, *acceptance]
	refused  *ttlcache.Cache[tokenHash, error]

	likely, others lane // of tokens that are not known, by what they say of themselves
}

// acceptance is a token that was let in. In use, it is reviewed again before it lapses, so that those who are known do
// not depend on how many strangers come.
type acceptance struct {
	user  string
	renew atomic.Int64 // when to review it again; nanoseconds since 1970
}

// lane bounds how often and how often at once the API server is asked.
type lane struct {
	rate   flowcontrol.RateLimiter
	places *semaphore.Weighted
}

func newLane() lane {
	return lane{flowcontrol.NewTokenBucketRateLimiter(reviewsPerSecond, reviewsBurst), semaphore.NewWeighted(reviewsAtOnce)}
}

// enter waits for a turn, but not where it would come too late.
func (l lane) enter(ctx context.Context) error {
	if err := l.rate.Wait(ctx); err != nil {
		return fmt.Errorf("too many tokens wait for it: %w", err)
	}
	return l.places.Acquire(ctx, 1)
}

func (l lane) leave() { l.places.Release(1) }

// tokenHash stands for a token, so that no token is kept.
type tokenHash [sha256.Size]byte

// NewReviewer makes a reviewer. Nothing runs in the background but a review that is under way.
func NewReviewer(client *Client, options ReviewerOptions) *Reviewer {
	return newReviewer(client.reviewToken, options)
}

func newReviewer(review func(context.Context, *authentication.TokenReview) (*authentication.TokenReview, error), options ReviewerOptions) *Reviewer {
	return &Reviewer{
		options: options, review: review,
		accepted: ttlcache.New(ttlcache.WithCapacity[tokenHash, *acceptance](reviewsKept), ttlcache.WithDisableTouchOnHit[tokenHash, *acceptance]()),
		refused:  ttlcache.New(ttlcache.WithCapacity[tokenHash, error](reviewsKept), ttlcache.WithDisableTouchOnHit[tokenHash, error]()),
		likely:   newLane(),
		others:   newLane(),
	}
}

// Review gives the user whose token an Authorization header carries. The error is ErrUnauthenticated,
// ErrForbidden, or another one when the API server could not tell. Concurrent reviews of one token are one; a
// caller that gives up does not fail the others.
func (r *Reviewer) Review(ctx context.Context, authorization string) (string, error) {
	token, err := bearerToken(authorization)
	if err != nil {
		return "", err
	}
	key := tokenHash(sha256.Sum256([]byte(token)))
	if known := r.accepted.Get(key); known != nil {
		r.renew(ctx, key, token, known.Value())
		return known.Value().user, nil
	}
	if known := r.refused.Get(key); known != nil {
		return "", known.Value()
	}
	if err := r.options.hopeless(token, time.Now()); err != nil {
		return "", err
	}
	flight := r.flights.DoChan(string(key[:]), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reviewTimeout)
		defer cancel()
		return r.askInTurn(ctx, key, token)
	})
	select {
	case <-ctx.Done():
		return "", fmt.Errorf("token review: %w", ctx.Err())
	case result := <-flight:
		user, _ := result.Val.(string)
		return user, result.Err
	}
}

// renew reviews an accepted token again, when it is time to. Nobody waits for it. Accepted tokens are few, so they need no
// turn.
func (r *Reviewer) renew(ctx context.Context, key tokenHash, token string, known *acceptance) {
	now, due := time.Now(), known.renew.Load()
	if now.UnixNano() < due || !known.renew.CompareAndSwap(due, now.Add(renewalAgain).UnixNano()) {
		return
	}
	r.flights.DoChan(string(key[:]), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reviewTimeout)
		defer cancel()
		return r.ask(ctx, key, token)
	})
}

// askInTurn asks about a token that is not known. Those that are likely good do not wait behind others.
func (r *Reviewer) askInTurn(ctx context.Context, key tokenHash, token string) (string, error) {
	turn := r.others
	if r.options.likely(token) {
		turn = r.likely
	}
	if err := turn.enter(ctx); err != nil {
		return "", fmt.Errorf("token review: %w", err)
	}
	defer turn.leave()
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

// ask has the API server review a token, and remembers what is definitive.
func (r *Reviewer) ask(ctx context.Context, key tokenHash, token string) (string, error) {
	answer, err := r.review(ctx, &authentication.TokenReview{
		Spec: authentication.TokenReviewSpec{Token: token, Audiences: r.options.Audiences},
	})
	if err != nil {
		return "", fmt.Errorf("token review: %w", err)
	}
	if err := r.judge(answer.Status); err != nil {
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
	if lasts <= 0 {
		return
	}
	accepted := &acceptance{user: user}
	accepted.renew.Store(now.Add(lasts * 3 / 4).UnixNano())
	r.accepted.Set(key, accepted, lasts)
}

// judge decides on the API server's answer. An API server that knows nothing of audiences leaves them out of the
// answer; then the token is not known to be for us (TokenReviewStatus.Audiences).
func (r *Reviewer) judge(status authentication.TokenReviewStatus) error {
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

// reviewToken creates a TokenReview and gives the API server's answer to it.
func (c *Client) reviewToken(ctx context.Context, review *authentication.TokenReview) (*authentication.TokenReview, error) {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(review)
	if err != nil {
		return nil, err
	}
	request := &unstructured.Unstructured{Object: object}
	request.SetGroupVersionKind(authentication.SchemeGroupVersion.WithKind("TokenReview"))
	answer, err := c.reviews.Resource(authentication.SchemeGroupVersion.WithResource("tokenreviews")).Create(ctx, request, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	into := &authentication.TokenReview{}
	return into, runtime.DefaultUnstructuredConverter.FromUnstructured(answer.Object, into)
}
