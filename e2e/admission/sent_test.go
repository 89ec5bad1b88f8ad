//go:build e2e

package admission

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
)

// recorder passes requests on to a replica, and keeps what they say.
type recorder struct {
	URL string

	mu     sync.Mutex
	bodies [][]byte
}

func newRecorder(t *testing.T, r *replica) *recorder {
	t.Helper()
	address, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	recorded, proxy := &recorder{}, httputil.NewSingleHostReverseProxy(address)
	server := httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		recorded.mu.Lock()
		recorded.bodies = append(recorded.bodies, body)
		recorded.mu.Unlock()
		request.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(response, request)
	}))
	t.Cleanup(server.Close)
	recorded.URL = server.URL
	return recorded
}

// take gives what was recorded since it was called last.
func (r *recorder) take() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	bodies := r.bodies
	r.bodies = nil
	return bodies
}

// throughRecorder installs the CEL pair so that it asks by a recorder.
func throughRecorder(t *testing.T, fx environment) *recorder {
	t.Helper()
	recorded := newRecorder(t, fx.Replicas[0])
	fx.Install(t, fixture.Policies{Samples: fixture.Ways()[0].Samples, Edit: func(sample string) string {
		return strings.ReplaceAll(sample, "https://"+fx.Replicas[0].Secure, recorded.URL)
	}})
	recorded.take()
	return recorded
}

// TestNamesAndImagesAloneAreSent holds what leaves Kyverno: names and images, each in its place, and for a denial what names the
// object and whom it belongs to.
func TestNamesAndImagesAloneAreSent(t *testing.T) {
	fx := shared
	fx.TwoTenants(t)
	recorded := throughRecorder(t, fx)
	const stays = "stays-with-kyverno"
	spec := func(image string) string {
		return fmt.Sprintf(`{"initContainers":[{"name":"setup","image":%[1]q,"args":[%[2]q]}],
			"containers":[{"name":"app","image":%[1]q,"env":[{"name":"PASSWORD","value":%[2]q}],"livenessProbe":{"exec":{"command":[%[2]q]}}}],
			"volumes":[{"name":"plain","configMap":{"name":%[2]q}},{"name":"data","image":{"reference":%[1]q,"pullPolicy":"Never"}}],
			"restartPolicy":"Never","serviceAccountName":%[2]q,"nodeSelector":{"a":%[2]q}}`, image, stays)
	}
	sent := func(image string) string {
		return fmt.Sprintf(`{"initContainers":[{"name":"setup","image":%[1]q}],"containers":[{"name":"app","image":%[1]q}],
			"volumes":[{"name":"plain"},{"name":"data","image":{"reference":%[1]q,"pullPolicy":"Never"}}]}`, image)
	}
	for kind, around := range map[string]struct{ path, apiVersion, before, after string }{
		"Pod":     {"/api/v1/namespaces/team-a/pods", "v1", "", ""},
		"CronJob": {"/apis/batch/v1/namespaces/team-a/cronjobs", "batch/v1", `{"jobTemplate":{"spec":{"template":{"spec":`, "}}}}"},
		"Job":     {"/apis/batch/v1/namespaces/team-a/jobs", "batch/v1", `{"template":{"spec":`, "}}"},
	} {
		t.Run(kind, func(t *testing.T) {
			create := func(image string) ([]string, error) {
				spec := strings.Replace(around.before, `{"jobTemplate"`, `{"schedule":"0 0 * * *","jobTemplate"`, 1) + spec(image) + around.after
				return fx.raw(t, around.path, fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"name":"sent","annotations":{"a":%q}},"spec":%s}`, around.apiVersion, kind, stays, spec))
			}
			object := func(image, metadata string) string {
				return fmt.Sprintf(`{"apiVersion":%q,"kind":%q,%s"spec":%s}`, around.apiVersion, kind, metadata, around.before+sent(image)+around.after)
			}
			images, err := create(fx.Reference("signed"))
			fx.check(t, images, err, "")
			recorded.expect(t, stays, object(fx.Reference("signed"), ""), object(fx.Pinned(t, "signed"), ""))
			images, err = create(fx.Reference("unsigned"))
			fx.check(t, images, err, "failed to verify container app")
			unsigned := fx.Reference("unsigned")
			recorded.expect(t, stays, object(unsigned, ""), object(unsigned, ""), object(unsigned, `"metadata":{"name":"sent","namespace":"team-a"},`))
		})
	}
}

// expect holds the objects that were sent against those that should be.
func (r *recorder) expect(t *testing.T, stays string, want ...string) {
	t.Helper()
	bodies := r.take()
	if len(bodies) != len(want) {
		t.Fatalf("%d requests, want %d:\n%s", len(bodies), len(want), bytes.Join(bodies, nil))
	}
	for i, body := range bodies {
		var have struct{ Object map[string]any }
		var wanted map[string]any
		if err := json.Unmarshal(body, &have); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(want[i]), &wanted); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(have.Object, wanted) {
			t.Errorf("request %d: sent %s\nwant %s", i, body, want[i])
		}
		if bytes.Contains(body, []byte(stays)) {
			t.Errorf("request %d: sent %s", i, body)
		}
	}
}

// raw sends the API server a body as it is, as a dry run, and gives the images of what would be stored, or the error.
func (fx environment) raw(t *testing.T, path, body string) ([]string, error) {
	t.Helper()
	output, err := fx.Bed.Kubectl(t.Context(), body, "create", "--raw", path+"?dryRun=All", "-f", "-")
	var images []string
	for _, match := range imagesIn.FindAllStringSubmatch(output, -1) {
		images = append(images, match[1])
	}
	return images, err
}

// TestNothingRunsThatWasNotSent has objects in which more may run than is sent. What is admitted has verified images only.
func TestNothingRunsThatWasNotSent(t *testing.T) {
	fx := shared
	fx.TwoTenants(t)
	fx.WithCEL(t)
	const refused = "exit status 1"
	replaced := strings.NewReplacer("SIGNED", fx.Reference("signed"), "UNVERIFIED", fx.Reference("unsigned"))
	pod := func(spec string) [2]string {
		return [2]string{"/api/v1/namespaces/team-a/pods", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"hides"},"spec":{` + spec + `}}`}
	}
	workload := func(spec string) [2]string {
		return [2]string{"/apis/apps/v1/namespaces/team-a/deployments", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"hides"},"spec":{"selector":{"matchLabels":{"a":"b"}},` + spec + `}}`}
	}
	const (
		signed   = `{"name":"app","image":"SIGNED"}`
		unsigned = `{"name":"app","image":"UNVERIFIED"}`
		labels   = `"metadata":{"labels":{"a":"b"}}`
	)
	tests := map[string]struct {
		object [2]string
		denied string // "" to be admitted
	}{
		"null lists beside a signed image":              {pod(`"initContainers":null,"ephemeralContainers":null,"volumes":null,"containers":[` + signed + `]`), ""},
		"null lists beside an unsigned image":           {pod(`"initContainers":null,"ephemeralContainers":null,"volumes":null,"containers":[` + unsigned + `]`), "failed to verify container app"},
		"containers are null":                           {pod(`"containers":null,"initContainers":[` + signed + `]`), refused},
		"a list twice, the unsigned image first":        {pod(`"containers":[` + unsigned + `],"containers":[` + signed + `]`), ""},
		"a list twice, the unsigned image last":         {pod(`"containers":[` + signed + `],"containers":[` + unsigned + `]`), "failed to verify container app"},
		"a list twice, the last without an image":       {pod(`"containers":[` + unsigned + `],"containers":[{"name":"app"}]`), refused},
		"an image twice":                                {pod(`"containers":[{"name":"app","image":"SIGNED","image":"UNVERIFIED"}]`), "failed to verify container app"},
		"a signed image in another case":                {pod(`"Containers":[` + signed + `],"containers":[{"name":"app","Image":"SIGNED","image":"UNVERIFIED"}]`), "failed to verify container app"},
		"an unsigned image in another case":             {pod(`"Containers":[` + unsigned + `],"containers":[{"name":"app","Image":"UNVERIFIED","image":"SIGNED"}]`), ""},
		"a template in a pod":                           {pod(`"containers":[` + unsigned + `],"template":{"spec":{"containers":[` + signed + `]}}`), "failed to verify container app"},
		"a template of jobs in a pod":                   {pod(`"containers":[` + unsigned + `],"jobTemplate":{"spec":{"template":{"spec":{"containers":[` + signed + `]}}}}`), "failed to verify container app"},
		"a template of jobs in a workload":              {workload(`"jobTemplate":{"spec":{"template":{"spec":{"containers":[` + signed + `]}}}},"template":{` + labels + `,"spec":{"containers":[` + unsigned + `]}}`), "failed to verify container app"},
		"a pod in a workload":                           {workload(`"containers":[` + signed + `],"template":{` + labels + `,"spec":{"containers":[` + unsigned + `]}}`), "failed to verify container app"},
		"a workload without a template":                 {workload(`"template":null,"containers":[` + signed + `]`), refused},
		"a container that is no object":                 {pod(`"containers":[` + signed + `,"SIGNED"]`), refused},
		"a container that is null":                      {pod(`"containers":[` + signed + `,null]`), refused},
		"containers that are an object":                 {pod(`"containers":{"0":` + signed + `}`), refused},
		"an image that is no text":                      {pod(`"containers":[{"name":"app","image":7}]`), refused},
		"an image that is a list":                       {pod(`"containers":[{"name":"app","image":["SIGNED"]}]`), refused},
		"a container without an image":                  {pod(`"containers":[` + signed + `,{"name":"other"}]`), "Required value"},
		"a container with an empty image":               {pod(`"containers":[` + signed + `,{"name":"other","image":""}]`), "Required value"},
		"a container with an image that is null":        {pod(`"containers":[` + signed + `,{"name":"other","image":null}]`), "Required value"},
		"an unsigned init container":                    {pod(`"containers":[` + signed + `],"initContainers":[{"name":"setup","image":"UNVERIFIED"}]`), "failed to verify init container setup"},
		"an ephemeral container from the first":         {pod(`"containers":[` + signed + `],"ephemeralContainers":[{"name":"debug","image":"UNVERIFIED"}]`), refused},
		"a volume before a signed image volume":         {pod(`"containers":[` + signed + `],"volumes":[{"name":"a","emptyDir":{}},{"name":"b","image":{"reference":"SIGNED"}}]`), ""},
		"a volume before an unsigned image volume":      {pod(`"containers":[` + signed + `],"volumes":[{"name":"a","image":null},{"name":"b","image":{"reference":"UNVERIFIED"}}]`), "failed to verify image volume b"},
		"an image volume without a reference":           {pod(`"containers":[` + signed + `],"volumes":[{"name":"b","image":{}}]`), "Required value"},
		"an image volume that is text":                  {pod(`"containers":[` + signed + `],"volumes":[{"name":"b","image":"SIGNED"}]`), refused},
		"a volume of two sources, one of them unsigned": {pod(`"containers":[` + signed + `],"volumes":[{"name":"b","emptyDir":{},"image":{"reference":"UNVERIFIED"}}]`), "may not specify more than 1 volume type"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			images, err := fx.raw(t, test.object[0], replaced.Replace(test.object[1]))
			fx.check(t, images, err, test.denied)
			if err == nil && len(images) == 0 {
				t.Error("admitted without images")
			}
		})
	}
}
