package function

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/kube"
)

// heldTrust is a TrustSource that holds up the planning of as many requests as asked has room for. For others it is not loaded.
type heldTrust struct{ asked, release chan struct{} }

// Snapshot waits for release.
func (h heldTrust) Snapshot() (trust.Snapshot, bool) {
	select {
	case h.asked <- struct{}{}:
		<-h.release
		return trust.Snapshot{}, true
	default:
		return trust.Snapshot{}, false
	}
}

// largeBody is a request over usualBody.
var largeBody = `{"object":{"kind":"Pod","spec":{"containers":[{"image":"a"}]}},"trustPolicy":"p","metadata":"` + strings.Repeat("x", 2*usualBody) + `"}`

func arrival(path string, body io.Reader) (http.ResponseWriter, *http.Request) {
	return httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, path, body)
}

// plan has f read and plan a body.
func plan(f *Function, body string) (planned, error) {
	w, r := arrival(pathCheck, strings.NewReader(body))
	return f.readPlan(r.Context(), w, r)
}

// TestReadPlanHoldsItsSeatUntilPlanned holds that a request keeps its seat until it is planned, since parsing takes more
// memory than the body.
func TestReadPlanHoldsItsSeatUntilPlanned(t *testing.T) {
	tests := map[string]struct {
		body  string
		seats int // for such requests at once
	}{
		"of a usual request": {`{"object":{"kind":"Pod","spec":{"containers":[{"image":"a"}]}},"trustPolicy":"p"}`, 20},
		"of a large one":     {largeBody, 1},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				trust := heldTrust{make(chan struct{}, test.seats), make(chan struct{})}
				f := &Function{trust: trust, limiter: newLimiter(Settings{MaxRequests: 20, MaxBodyBytes: len(largeBody), RequestTimeout: 400 * time.Millisecond})}
				planned := make(chan error)
				for range test.seats {
					go func() {
						_, err := plan(f, test.body)
						planned <- err
					}()
				}
				synctest.Wait()
				if len(trust.asked) != test.seats {
					t.Fatalf("%d requests are being planned; want %d", len(trust.asked), test.seats)
				}
				if _, err := plan(f, test.body); !errors.Is(err, errOverloaded) {
					t.Errorf("one more while they are planned: %v", err)
				}
				close(trust.release)
				for range test.seats {
					if err := <-planned; err != nil {
						t.Error(err)
					}
				}
				<-trust.asked
				if _, err := plan(f, test.body); err != nil {
					t.Errorf("one more after that: %v", err)
				}
			})
		})
	}
}

// TestLimiterSeparatesStalledBodiesByPath holds that bodies that stall at /verify, which may be open to everyone, do not
// hold up requests at /checkimages.
func TestLimiterSeparatesStalledBodiesByPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(Settings{MaxRequests: 100, MaxBodyBytes: 1 << 20, RequestTimeout: 400 * time.Millisecond})
		ended := make(chan struct{})
		var stalled []*io.PipeWriter
		for range largeBodies {
			body, sender := io.Pipe()
			stalled = append(stalled, sender)
			go func() {
				w, r := arrival(pathVerify, body)
				if _, seat, err := l.read(r.Context(), w, r); err == nil {
					seat.release()
				}
				ended <- struct{}{}
			}()
			if _, err := io.WriteString(sender, largeBody); err != nil { // returns when it is read
				t.Fatal(err)
			}
		}
		for path, want := range map[string]error{pathVerify: errOverloaded, pathCheck: nil} {
			w, r := arrival(path, strings.NewReader(largeBody))
			_, seat, err := l.read(r.Context(), w, r)
			if !errors.Is(err, want) {
				t.Errorf("%s: %v; want %v", path, err, want)
			}
			if err == nil {
				seat.release()
			}
		}
		for _, sender := range stalled {
			sender.Close()
			<-ended
		}
	})
}

// callersOf authenticates the caller with one header, and knows another one that may not ask.
type callersOf struct{ known, stranger string }

// Review is part of CallerReview.
func (c callersOf) Review(_ context.Context, authorization string) (string, error) {
	switch authorization {
	case c.known:
		return "kyverno", nil
	case c.stranger:
		return "", kube.ErrForbidden
	}
	return "", kube.ErrUnauthenticated
}

// unread is a body that must not be read.
type unread struct{ t *testing.T }

// Read fails the test.
func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body is read")
	return 0, io.EOF
}

// TestHandlerAuthenticatesBeforeReading holds that both paths authenticate the caller before they read the body. The errors
// say what to write into the policy; at /verify they are JSON, since CEL policies can read nothing else.
func TestHandlerAuthenticatesBeforeReading(t *testing.T) {
	const known, stranger = "Bearer known", "Bearer stranger"
	body := `{"object":{"kind":"Pod","spec":{"containers":[{"name":"c","image":"registry.example.com/x:v1"}]}},"trustPolicy":"absent"}`
	tests := map[string]struct {
		authorization string
		without       bool           // --verifyWithoutToken
		status        map[string]int // by path
		says          string
	}{
		"the right token":                              {known, false, map[string]int{pathCheck: 406, pathVerify: 200}, "does not exist"},
		"no token":                                     {"", false, map[string]int{pathCheck: 401, pathVerify: 401}, `"Bearer `},
		"a wrong token":                                {"Bearer guess", false, map[string]int{pathCheck: 401, pathVerify: 401}, "that token from the Secret callers"},
		"the token of somebody who may not":            {stranger, false, map[string]int{pathCheck: 403, pathVerify: 403}, "name it in --allowedUsers"},
		"no token where /verify is open":               {"", true, map[string]int{pathCheck: 401, pathVerify: 200}, ""},
		"a stranger's token where /verify is open":     {stranger, true, map[string]int{pathCheck: 403, pathVerify: 200}, ""},
		"the right token where /verify is open":        {known, true, map[string]int{pathCheck: 406, pathVerify: 200}, "does not exist"},
		"a token of which the answer must not speak":   {"Bearer hunter2hunter2", false, map[string]int{pathCheck: 401, pathVerify: 401}, ""},
		"a header that is more than the right token":   {known + " ", false, map[string]int{pathCheck: 401, pathVerify: 401}, ""},
		"a header that is the right token's beginning": {known[:10], false, map[string]int{pathCheck: 401, pathVerify: 401}, ""},
	}
	for sentence, test := range tests {
		for path, want := range test.status {
			t.Run(sentence+" at "+path, func(t *testing.T) {
				settings, _, err := LoadSettings("test", []string{"--trustDir", t.TempDir(), "--callerSecret", "callers"}, func(string) (string, bool) { return "", false }, nil)
				if err != nil {
					t.Fatal(err)
				}
				settings.VerifyWithoutToken = test.without
				f, err := New(settings, os.LookupEnv, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				f.callers = callersOf{known, stranger}
				defer f.Stop()
				var source io.Reader = strings.NewReader(body)
				if want == http.StatusUnauthorized || want == http.StatusForbidden {
					source = unread{t}
				}
				got, request := arrival(path, source)
				if test.authorization != "" {
					request.Header.Set("Authorization", test.authorization)
				}
				f.Handler().ServeHTTP(got, request)
				answer := got.(*httptest.ResponseRecorder)
				if text := answer.Body.String(); answer.Code != want || !strings.Contains(strings.ReplaceAll(text, `\"`, `"`), test.says) || strings.Contains(text, "hunter2") {
					t.Errorf("answer %d %s; want %d, %s", answer.Code, text, want, test.says)
				}
				if path == pathVerify && !json.Valid(answer.Body.Bytes()) {
					t.Errorf("the answer is no JSON: %s", answer.Body)
				}
			})
		}
	}
}

// TestLimiterParsesLargeBodiesInTurn holds that large bodies are parsed one at a time, that they do not hold up smaller
// ones, and that the path that had no turn goes first.
func TestLimiterParsesLargeBodiesInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(Settings{MaxRequests: 100, MaxBodyBytes: len(largeBody), RequestTimeout: 4 * time.Second})
		read := func(path, body string) (release func(), err error) {
			w, r := arrival(path, strings.NewReader(body))
			_, seat, err := l.read(r.Context(), w, r)
			return seat.release, err
		}
		first, err := read(pathVerify, largeBody)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{pathVerify, pathCheck} {
			if release, err := read(path, "{}"); err != nil {
				t.Errorf("a usual body at %s: %v", path, err)
			} else {
				release()
			}
			began := time.Now()
			if _, err := read(path, largeBody); !errors.Is(err, errOverloaded) || time.Since(began) != time.Second {
				t.Errorf("a large body at %s, after %s: %v", path, time.Since(began), err)
			}
		}
		turns := make(chan string, 8)
		for range 3 {
			go func() {
				if release, err := read(pathVerify, largeBody); err == nil {
					turns <- pathVerify
					time.Sleep(100 * time.Millisecond)
					release()
				}
			}()
		}
		synctest.Wait()
		go func() {
			if release, err := read(pathCheck, largeBody); err == nil {
				turns <- pathCheck
				release()
			}
		}()
		synctest.Wait()
		first()
		synctest.Wait()
		time.Sleep(150 * time.Millisecond)
		synctest.Wait()
		if first, second := <-turns, <-turns; first != pathCheck || second != pathVerify {
			t.Errorf("the turns are %s, %s", first, second)
		}
		time.Sleep(time.Second)
	})
}

// TestLimiterBoundsLargePlans holds that large plans are bounded in total and per trust policy while they are answered, and
// that small plans do not wait.
func TestLimiterBoundsLargePlans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 1 << 20
		l := newLimiter(Settings{MaxRequests: 100, MaxBodyBytes: most, RequestTimeout: 4 * time.Second})
		reserve := func(path, policy string, weight int) (func(), error) {
			seat, err := l.reserve(t.Context(), path, core.Plan{Policy: policy, Tasks: []verification.Task{{}}}, weight)
			return seat.release, err
		}
		var releases []func()
		for _, policy := range []string{"a", "a", "b", "b", "c", "d"} {
			release, err := reserve(pathVerify, policy, most/2)
			if err != nil {
				t.Fatal(err)
			}
			releases = append(releases, release)
		}
		tests := []struct {
			path, policy string
			weight       int
			refused      bool
		}{
			{pathVerify, "a", most / 2, true}, // it has its share
			{pathVerify, "a", usualBody, false},
			{pathVerify, "e", most, false},
			{pathVerify, "f", 2 * usualBody, true}, // all is taken
			{pathCheck, "f", 2 * most, false},
		}
		for _, test := range tests {
			release, err := reserve(test.path, test.policy, test.weight)
			if refused := errors.Is(err, errOverloaded); refused != test.refused {
				t.Errorf("%+v: %v", test, err)
			}
			if err == nil {
				releases = append(releases, release)
			}
		}
		for _, release := range releases {
			release()
		}
		if release, err := reserve(pathVerify, "f", most); err != nil {
			t.Errorf("after all releases: %v", err)
		} else {
			release()
		}
	})
}
