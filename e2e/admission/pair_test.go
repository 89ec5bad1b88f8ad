//go:build e2e

package admission

import (
	"cmp"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
)

// notPinned is what the person reads whose image was not pinned.
const notPinned = "it is not named by digest, and the request demands that it is"

// imagesIn finds every image of a pod as kubectl prints it in JSON.
var imagesIn = regexp.MustCompile(`"(?:image|reference)": *"([^"]*)"`)

// outcome creates a pod without storing it, and gives its images, or the error.
func (fx environment) outcome(t *testing.T, manifest string, args ...string) ([]string, error) {
	t.Helper()
	if len(args) == 0 {
		args = []string{"create", "-f", "-"}
	}
	output, err := fx.Bed.Kubectl(t.Context(), manifest, append(args, "--dry-run=server", "-o", "json")...)
	var images []string
	for _, match := range imagesIn.FindAllStringSubmatch(output, -1) {
		images = append(images, match[1])
	}
	return images, err
}

// check holds an outcome against what is wanted: a denial that says something, or only images that are pinned and verified.
func (fx environment) check(t *testing.T, images []string, err error, denied string) {
	t.Helper()
	switch {
	case denied == "" && err != nil:
		t.Errorf("denied: %v", err)
	case denied != "" && err == nil:
		t.Errorf("admitted with %q; want %s", images, denied)
	case denied != "" && !strings.Contains(err.Error(), denied):
		t.Errorf("%v\nwant %s", err, denied)
	}
	verified := []string{fx.Pinned(t, "signed"), fx.Pinned(t, "signed-cose")}
	for _, image := range images {
		if !slices.Contains(verified, image) {
			t.Errorf("admitted with %s, which is not both pinned and verified", image)
		}
	}
}

// faultyService passes requests on to a replica, or answers them by itself.
type faultyService struct {
	URL    string
	answer atomic.Pointer[http.HandlerFunc] // nil to pass them on
}

func newFaultyService(t *testing.T, r *replica) *faultyService {
	t.Helper()
	address, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	service, proxy := &faultyService{}, httputil.NewSingleHostReverseProxy(address)
	server := httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		if answer := service.answer.Load(); answer != nil {
			(*answer)(response, request)
			return
		}
		proxy.ServeHTTP(response, request)
	}))
	t.Cleanup(server.Close)
	service.URL = server.URL
	return service
}

// says gives an answer.
func says(status int, body string) http.HandlerFunc {
	return func(response http.ResponseWriter, _ *http.Request) {
		response.Header().Set("Content-Type", "application/json")
		response.WriteHeader(status)
		_, _ = response.Write([]byte(body))
	}
}

// TestAFailedMutation has the call of the MutatingPolicy fail in every way, while that of the ValidatingPolicy is answered.
func TestAFailedMutation(t *testing.T) {
	fx := shared
	fx.TwoTenants(t)
	service := newFaultyService(t, fx.Replicas[0])
	result := func(path, image string) string {
		return fmt.Sprintf(`{"verified":true,"results":[{"name":"app","path":%q,"image":%q,"op":"replace","value":%q}]}`, path, image, image)
	}
	tests := map[string]struct {
		answer http.HandlerFunc
		denied string // "" for any reason
	}{
		"the service is away":            {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ""},
		"it is not ready":                {says(503, `{"message":"trust is not loaded yet"}`), notPinned},
		"it does not know the caller":    {says(401, `{"message":"the caller is not authenticated"}`), notPinned},
		"a proxy answers":                {says(502, "<html>bad gateway</html>"), ""},
		"nothing is answered":            {says(200, ""), ""},
		"a list is answered":             {says(200, "[]"), ""},
		"no results are answered":        {says(200, `{"verified":true}`), ""},
		"no patches are answered":        {says(200, `{"verified":true,"results":[]}`), notPinned},
		"another image is answered":      {says(200, result("/spec/containers/0/image", fx.Pinned(t, "unsigned"))), "no signature is associated with"},
		"another tag is answered":        {says(200, result("/spec/containers/0/image", fx.Reference("signed-cose"))), notPinned},
		"a place that is not there":      {says(200, result("/spec/containers/7/image", fx.Pinned(t, "signed"))), ""},
		"one image of two is pinned":     {says(200, result("/spec/containers/0/image", fx.Pinned(t, "signed"))), notPinned},
		"the images are removed from it": {says(200, strings.ReplaceAll(result("/spec/containers", ""), `"value":""`, `"value":[]`)), ""},
	}
	for _, failurePolicy := range []string{"Fail", "Ignore"} {
		t.Run("with failurePolicy "+failurePolicy, func(t *testing.T) {
			fx.Install(t, fixture.Policies{Samples: fixture.Ways()[0].Samples, Edit: func(sample string) string {
				if !strings.Contains(sample, "kind: MutatingPolicy") {
					return sample
				}
				sample = strings.ReplaceAll(sample, "https://"+fx.Replicas[0].Secure, service.URL)
				return strings.ReplaceAll(sample, "failurePolicy: Fail", "failurePolicy: "+failurePolicy)
			}})
			for sentence, test := range tests {
				t.Run(sentence, func(t *testing.T) {
					service.answer.Store(&test.answer)
					defer service.answer.Store(nil)
					images, err := fx.outcome(t, fixture.Pod("failed", "team-a", fx.Reference("signed")))
					fx.check(t, images, err, cmp.Or(test.denied, "exit status 1"))
				})
			}
		})
	}
}
