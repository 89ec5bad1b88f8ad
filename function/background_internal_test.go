package function

import (
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
)

// TestSaysBackground believes one spelling, and takes every other request for an admission.
func TestSaysBackground(t *testing.T) {
	tests := map[string]struct {
		header http.Header
		want   bool
	}{
		"the least urgency":                    {http.Header{"Priority": {"u=7"}}, true},
		"no header":                            {http.Header{}, false},
		"an empty header":                      {http.Header{"Priority": {""}}, false},
		"another urgency":                      {http.Header{"Priority": {"u=3"}}, false},
		"an urgency that does not exist":       {http.Header{"Priority": {"u=77"}}, false},
		"blanks":                               {http.Header{"Priority": {"u = 7"}}, false},
		"upper case":                           {http.Header{"Priority": {"U=7"}}, false},
		"a second member":                      {http.Header{"Priority": {"u=7, u=0"}}, false},
		"two headers":                          {http.Header{"Priority": {"u=7", "u=0"}}, false},
		"the same in a header of another name": {http.Header{"X-Priority": {"u=7"}}, false},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			if got := saysBackground(test.header); got != test.want {
				t.Errorf("background is %t", got)
			}
		})
	}
}

// TestHandlerTellsBackgroundRequests by their caller or by their header, and holds that a caller who is not authenticated
// gets no background seat.
func TestHandlerTellsBackgroundRequests(t *testing.T) {
	const body = `{"object":{"kind":"Pod","spec":{"containers":[{"name":"c","image":"registry.example.com/x:v1"}]}},"trustPolicy":"absent"}`
	tests := map[string]struct {
		users         []string // --backgroundUsers
		authorization string
		priority      string
		background    bool
		status        int
	}{
		"an admission":                                  {[]string{"reports"}, "Bearer known", "", false, 200},
		"a caller who scans":                            {[]string{"reports", "kyverno"}, "Bearer known", "", true, 200},
		"a caller who scans and says otherwise":         {[]string{"kyverno"}, "Bearer known", "u=0", true, 200},
		"a caller who says so":                          {nil, "Bearer known", "u=7", true, 200},
		"a caller who is not known":                     {nil, "Bearer guess", "u=7", false, 401},
		"a name that begins like that of one who scans": {[]string{"kyverno-reports"}, "Bearer known", "", false, 200},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			settings, _, err := LoadSettings("test", []string{"--trustDir", t.TempDir()}, func(string) (string, bool) { return "", false }, nil)
			if err != nil {
				t.Fatal(err)
			}
			settings.BackgroundUsers = test.users
			var log strings.Builder
			f, err := New(settings, os.LookupEnv, slog.New(slog.NewJSONHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Stop()
			f.callers = callersOf{"Bearer known", "Bearer stranger"}
			request := httptest.NewRequest(http.MethodPost, pathVerify, strings.NewReader(body))
			request.Header.Set("Authorization", test.authorization)
			if test.priority != "" {
				request.Header.Set("Priority", test.priority)
			}
			answer := httptest.NewRecorder()
			f.Handler().ServeHTTP(answer, request)
			if answer.Code != test.status {
				t.Errorf("answer %d %s", answer.Code, answer.Body)
			}
			if logged := strings.Contains(log.String(), `"background":true`); logged != test.background {
				t.Errorf("background is %t in the log: %s", logged, log.String())
			}
			scrape := httptest.NewRecorder()
			f.Handler().ServeHTTP(scrape, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			metrics, _ := io.ReadAll(scrape.Body)
			if counted := strings.Contains(string(metrics), `for="background"`); counted != test.background {
				t.Errorf("counted as background is %t", counted)
			}
			if f.limiter.background.InUse() != 0 {
				t.Error("the background seat is not released")
			}
		})
	}
}

// TestLimiterBoundsBackgroundRequests seats as many as it may, has the others wait for half of their time, and refuses those
// for whom there is no room to wait.
func TestLimiterBoundsBackgroundRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(Settings{MaxRequests: 100, MaxBodyBytes: 1 << 20, MaxBackground: 2, RequestTimeout: 8 * time.Second})
		var releases []func()
		for range 2 {
			release, err := l.acquireBackground(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			releases = append(releases, release)
		}
		type result struct {
			release func()
			err     error
			after   time.Duration
		}
		results, began := make(chan result, maxScans), time.Now()
		for range maxScans - 2 {
			go func() {
				release, err := l.acquireBackground(t.Context())
				results <- result{release, err, time.Since(began)}
			}()
		}
		synctest.Wait()
		if l.background.InUse() != 2 || l.background.Waiting() != maxScans-2 {
			t.Fatalf("%d in use, %d wait", l.background.InUse(), l.background.Waiting())
		}
		if _, err := l.acquireBackground(t.Context()); !errors.Is(err, errScans) || time.Since(began) != 0 {
			t.Errorf("one more: %v after %s", err, time.Since(began))
		}
		releases[0]()
		if got := <-results; got.err != nil || got.after != 0 {
			t.Errorf("the first in the line: %v after %s", got.err, got.after)
		} else {
			releases[0] = got.release
		}
		for range maxScans - 3 {
			if got := <-results; !errors.Is(got.err, errScans) || got.after != 4*time.Second {
				t.Errorf("one that waited in vain: %v after %s", got.err, got.after)
			}
		}
		for _, release := range releases {
			release()
		}
		if !l.scans.TryAcquire(maxScans) || l.background.InUse() != 0 {
			t.Error("seats are left behind")
		}
	})
}
