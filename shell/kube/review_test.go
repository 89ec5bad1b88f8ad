package kube

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	authentication "k8s.io/api/authentication/v1"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
)

const (
	audience = "kyverno-svc.kyverno.io"
	kyverno  = "system:serviceaccount:kyverno:kyverno-admission-controller"
)

func ours() ReviewerOptions {
	return ReviewerOptions{Audiences: []string{audience}, AllowedUsers: []string{kyverno}}
}

// jwt makes an unsigned token; only its form matters here.
func jwt(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

func TestReview(t *testing.T) {
	tests := map[string]struct {
		header string
		status map[string]any // the API server's answer; nil when it must not be asked
		want   error
	}{
		"Kyverno's own token":                {"Bearer good", accepted(kyverno, audience), nil},
		"one of several audiences":           {"bearer good", accepted(kyverno, "other", audience), nil},
		"a token that is not accepted":       {"Bearer bad", map[string]any{"error": "invalid bearer token"}, ErrUnauthenticated},
		"a token for another audience":       {"Bearer other", accepted(kyverno, "https://kubernetes.default.svc"), ErrUnauthenticated},
		"a server without audiences":         {"Bearer old", accepted(kyverno), ErrUnauthenticated},
		"another service account":            {"Bearer m4ll0ry", accepted("system:serviceaccount:default:mallory", audience), ErrForbidden},
		"no header":                          {"", nil, ErrUnauthenticated},
		"a scheme without token":             {"Bearer", nil, ErrUnauthenticated},
		"a scheme and blanks":                {"Bearer   ", nil, ErrUnauthenticated},
		"another scheme":                     {"Basic Z29vZDpnb29k", nil, ErrUnauthenticated},
		"two tokens":                         {"Bearer a b", nil, ErrUnauthenticated},
		"a token over the bound":             {"Bearer " + strings.Repeat("a", maxToken+1), nil, ErrUnauthenticated},
		"a token alone, without its scheme":  {"good", nil, ErrUnauthenticated},
		"a header that is only a blank":      {" ", nil, ErrUnauthenticated},
		"a service account's token for us":   {"Bearer " + jwt(`{"sub":"`+kyverno+`","aud":["other","`+audience+`"]}`), accepted(kyverno, audience), nil},
		"one that names us alone":            {"Bearer " + jwt(`{"sub":"`+kyverno+`","aud":"`+audience+`"}`), accepted(kyverno, audience), nil},
		"one for somebody else":              {"Bearer " + jwt(`{"sub":"`+kyverno+`","aud":["https://kubernetes.default.svc"]}`), nil, ErrUnauthenticated},
		"one for somebody else alone":        {"Bearer " + jwt(`{"sub":"`+kyverno+`","aud":"other"}`), nil, ErrUnauthenticated},
		"one of the older kind, for anybody": {"Bearer " + jwt(`{"sub":"`+kyverno+`"}`), accepted(kyverno, audience), nil},
		"an identity provider's token":       {"Bearer " + jwt(`{"sub":"kyverno","aud":"client"}`), accepted(kyverno, audience), nil},
		"an audience that is a number":       {"Bearer " + jwt(`{"sub":"`+kyverno+`","aud":1}`), accepted(kyverno, audience), nil},
		"a token that expired long ago":      {"Bearer " + jwt(`{"sub":"`+kyverno+`","exp":1000000000}`), nil, ErrUnauthenticated},
		"an expiry that is no number":        {"Bearer " + jwt(`{"exp":"soon"}`), accepted(kyverno, audience), nil},
		"a payload that is not base64":       {"Bearer a.*.c", accepted(kyverno, audience), nil},
		"an expiry beyond every calendar":    {"Bearer " + jwt(`{"exp":1e300}`), accepted(kyverno, audience), nil},
		"an expiry before every calendar":    {"Bearer " + jwt(`{"exp":-1e300}`), accepted(kyverno, audience), nil},
		"a payload that is JSON but no JSON": {"Bearer " + jwt(`[`), accepted(kyverno, audience), nil},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			api := kubetest.Start(t)
			var sent map[string]any
			api.Review = func(spec kubetest.Object) kubetest.Object { sent = spec; return c.status }
			user, err := NewReviewer(api.Client(t), ours()).Review(t.Context(), c.header)
			if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) || (err == nil) != (user == kyverno) {
				t.Errorf("user %q, error %v; want error %v", user, err, c.want)
			}
			if _, token, _ := strings.Cut(c.header, " "); err != nil && len(token) > 2 && strings.Contains(err.Error(), token) {
				t.Errorf("the error repeats the token: %v", err)
			}
			if (sent != nil) != (c.status != nil) {
				t.Errorf("the API server got %v", sent)
			}
			if sent != nil && fmt.Sprint(sent["audiences"]) != "["+audience+"]" {
				t.Errorf("audiences asked for: %v", sent["audiences"])
			}
		})
	}
}

func accepted(user string, audiences ...string) map[string]any {
	return map[string]any{"authenticated": true, "user": map[string]any{"username": user}, "audiences": audiences}
}

func TestReviewWithoutAnAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := kubetest.Start(t)
		reviewer := NewReviewer(api.Client(t), ours())
		api.Refuse(http.StatusForbidden) // the service itself may not create reviews
		unavailable(t, reviewer)
		api.Stop()
		unavailable(t, reviewer)
		api.Refuse(0)
		api.Review = func(kubetest.Object) kubetest.Object { return accepted(kyverno, audience) }
		api.Restart()
		if _, err := reviewer.Review(t.Context(), "Bearer good"); err != nil {
			t.Errorf("after the outage: %v", err)
		}
	})
}

func unavailable(t *testing.T, reviewer *Reviewer) {
	t.Helper()
	_, err := reviewer.Review(t.Context(), "Bearer good")
	if err == nil || errors.Is(err, ErrUnauthenticated) || errors.Is(err, ErrForbidden) || strings.Contains(err.Error(), "good") {
		t.Errorf("error %v; want one that blames the API server", err)
	}
}

func TestReviewsAreRemembered(t *testing.T) {
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // where a synctest bubble starts
	tests := map[string]struct {
		token string
		ok    bool
		lasts time.Duration
	}{
		"a token without expiry, for a minute":    {"opaque", true, time.Minute},
		"a token that lasts, for a minute":        {jwt(fmt.Sprintf(`{"exp":%d}`, now.Add(time.Hour).Unix())), true, time.Minute},
		"a token that expires, until it does":     {jwt(fmt.Sprintf(`{"exp":%d}`, now.Add(20*time.Second).Unix())), true, 20 * time.Second},
		"a refused token, for a moment":           {"bad", false, 5 * time.Second},
		"a token that should be expired, not all": {jwt(fmt.Sprintf(`{"exp":%d}`, now.Add(-time.Second).Unix())), true, 0},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				reviewer := newReviewer(func(context.Context, *authentication.TokenReview) (*authentication.TokenReview, error) {
					asked++
					return answered(c.ok), nil
				}, ours())
				_, _ = reviewer.Review(t.Context(), "Bearer "+c.token)
				if c.lasts > 0 {
					time.Sleep(c.lasts / 2)
					_, _ = reviewer.Review(t.Context(), "Bearer "+c.token)
					if asked != 1 {
						t.Errorf("asked %d times while it is remembered", asked)
					}
					time.Sleep(c.lasts/2 + time.Millisecond)
				}
				_, err := reviewer.Review(t.Context(), "Bearer "+c.token)
				if asked != 2 || (err == nil) != c.ok {
					t.Errorf("asked %d times, error %v", asked, err)
				}
			})
		})
	}
}

// TestTokensInUseAreReviewedBeforeTheyExpire holds that callers need not wait for a review, nor fail while the API server
// is slow.
func TestTokensInUseAreReviewedBeforeTheyExpire(t *testing.T) {
	tests := map[string]struct {
		then  func() (*authentication.TokenReview, error) // every answer but the first
		after time.Duration                               // from then on the token is not let in any more; 0 for never
		asked int                                         // within two minutes
	}{
		"it is good still":               {func() (*authentication.TokenReview, error) { return answered(true), nil }, 0, 3},
		"it was taken back":              {func() (*authentication.TokenReview, error) { return answered(false), nil }, 45 * time.Second, 14},
		"the API server cannot be asked": {func() (*authentication.TokenReview, error) { return nil, errors.New("down") }, time.Minute, 64},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				reviewer := newReviewer(func(context.Context, *authentication.TokenReview) (*authentication.TokenReview, error) {
					if asked++; asked == 1 {
						return answered(true), nil
					}
					return test.then()
				}, ours())
				start := time.Now()
				for ; time.Since(start) < 2*time.Minute; time.Sleep(time.Second) {
					_, err := reviewer.Review(t.Context(), "Bearer good")
					synctest.Wait()
					late := test.after > 0 && time.Since(start) > test.after+time.Second
					if in := test.after == 0 || time.Since(start) < test.after; in && err != nil || late && err == nil {
						t.Errorf("after %s: %v", time.Since(start), err)
					}
				}
				if asked != test.asked {
					t.Errorf("asked %d times; want %d", asked, test.asked)
				}
			})
		})
	}
}

// TestTokenFloodsDoNotBlockKnownCallers holds that a flood of invalid tokens is not passed on to the API server, and keeps
// out neither known callers nor new tokens that may be valid.
func TestTokenFloodsDoNotBlockKnownCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked, now, most atomic.Int32
		good := func(i int) string { return jwt(fmt.Sprintf(`{"sub":%q,"aud":%q,"jti":"%d"}`, kyverno, audience, i)) }
		reviewer := newReviewer(func(ctx context.Context, review *authentication.TokenReview) (*authentication.TokenReview, error) {
			asked.Add(1)
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(100 * time.Millisecond)
			now.Add(-1)
			return answered(!strings.HasPrefix(review.Spec.Token, "bad")), ctx.Err()
		}, ours())
		const seconds, flood = 100, 300
		var callers sync.WaitGroup
		for second := range seconds {
			for i := range flood {
				callers.Go(func() { _, _ = reviewer.Review(t.Context(), fmt.Sprintf("Bearer bad%d-%d", second, i)) })
			}
			for _, token := range []string{good(0), good(second)} {
				callers.Go(func() {
					if _, err := reviewer.Review(t.Context(), "Bearer "+token); err != nil {
						t.Errorf("in second %d: %v", second, err)
					}
				})
			}
			time.Sleep(time.Second)
		}
		callers.Wait()
		if asked.Load() > 60*seconds || most.Load() > 40 {
			t.Errorf("the API server was asked %d times in %d seconds, %d times at once", asked.Load(), seconds, most.Load())
		}
	})
}

func answered(ok bool) *authentication.TokenReview {
	return &authentication.TokenReview{Status: authentication.TokenReviewStatus{
		Authenticated: ok, Audiences: []string{audience}, User: authentication.UserInfo{Username: kyverno},
	}}
}

func TestManyRefusedTokensDoNotEvictAGoodOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := map[string]int{}
		reviewer := newReviewer(func(_ context.Context, review *authentication.TokenReview) (*authentication.TokenReview, error) {
			asked[review.Spec.Token]++
			return answered(review.Spec.Token == "good"), nil
		}, ours())
		for i := range 3 * reviewsKept {
			if i%reviewsKept == 0 {
				_, _ = reviewer.Review(t.Context(), "Bearer good")
			}
			_, _ = reviewer.Review(t.Context(), fmt.Sprintf("Bearer bad%d", i))
		}
		if asked["good"] != 1 || reviewer.refused.Len() > reviewsKept {
			t.Errorf("the good token was reviewed %d times; %d refused are kept", asked["good"], reviewer.refused.Len())
		}
	})
}

func TestConcurrentReviewsOfOneTokenAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		reviewer := newReviewer(func(ctx context.Context, _ *authentication.TokenReview) (*authentication.TokenReview, error) {
			asked.Add(1)
			time.Sleep(time.Second)
			return answered(true), ctx.Err()
		}, ours())
		impatient, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		var callers sync.WaitGroup
		callers.Go(func() {
			if _, err := reviewer.Review(impatient, "Bearer good"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the caller that gave up got %v", err)
			}
		})
		time.Sleep(time.Millisecond) // it asks first
		for range 20 {
			callers.Go(func() {
				if user, err := reviewer.Review(t.Context(), "Bearer good"); err != nil || user != kyverno {
					t.Errorf("user %q, error %v", user, err)
				}
			})
		}
		callers.Wait()
		if asked.Load() != 1 {
			t.Errorf("asked %d times", asked.Load())
		}
	})
}

func TestReviewsGoOnWhenTheirCallersGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		reviewer := newReviewer(func(ctx context.Context, _ *authentication.TokenReview) (*authentication.TokenReview, error) {
			asked.Add(1)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			return answered(true), ctx.Err()
		}, ours())
		impatient, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if _, err := reviewer.Review(impatient, "Bearer good"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller that gave up got %v", err)
		}
		time.Sleep(time.Second)
		if user, err := reviewer.Review(t.Context(), "Bearer good"); err != nil || user != kyverno || asked.Load() != 1 {
			t.Errorf("user %q, error %v, asked %d times", user, err, asked.Load())
		}
	})
}

// TestForgedTokensDoNotKeepOutOneThatWasAcceptedEarlier floods the reviewer with tokens that claim to be an allowed account's, after one of that
// account was not in use for so long that its review counts no more.
func TestForgedTokensDoNotKeepOutOneThatWasAcceptedEarlier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token := func(i int) string { return jwt(fmt.Sprintf(`{"sub":%q,"aud":%q,"jti":"%d"}`, kyverno, audience, i)) }
		good := token(-1)
		reviewer := newReviewer(func(ctx context.Context, review *authentication.TokenReview) (*authentication.TokenReview, error) {
			time.Sleep(10 * time.Millisecond)
			return answered(review.Spec.Token == good), ctx.Err()
		}, ours())
		if _, err := reviewer.Review(t.Context(), "Bearer "+good); err != nil {
			t.Fatal(err)
		}
		time.Sleep(acceptedFor + time.Second)
		var callers sync.WaitGroup
		for i := range 3000 { // 500 a second
			callers.Go(func() { _, _ = reviewer.Review(t.Context(), "Bearer "+token(i)) })
			time.Sleep(2 * time.Millisecond)
		}
		began := time.Now()
		if _, err := reviewer.Review(t.Context(), "Bearer "+good); err != nil || time.Since(began) > 100*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		callers.Wait()
	})
}
