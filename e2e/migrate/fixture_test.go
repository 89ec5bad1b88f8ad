//go:build e2e

// Package migrate holds the policies that the command migrate makes against the ClusterPolicies that it is given: with a real API
// server and a real Kyverno both are asked about the same objects, and have to decide alike.
package migrate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/nirmata/kyverno-notation-venafi/core/migrate"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
)

// environment is what the tests share.
type environment struct {
	*fixture.Fixture
	api     *http.Client
	host    string
	digests map[string]string // references by digest of images of the scenario
}

// shared is set once, before the tests.
var shared environment

func TestMain(m *testing.M) {
	os.Exit(fixture.Main(m, fixture.Options{Replicas: 1}, func(fx *fixture.Fixture) { shared = environment{Fixture: fx} }))
}

// connect makes the client of the API server.
func (e *environment) connect(t *testing.T) {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", e.Bed.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	if e.api, err = rest.HTTPClientFor(config); err != nil {
		t.Fatal(err)
	}
	e.host = config.Host
	e.digests = map[string]string{}
	for _, name := range []string{"signed", "unsigned"} {
		e.digests[name] = e.Pinned(t, name)
	}
}

// ask is a request to the API server, as a dry run.
type ask struct {
	sentence     string
	method, path string
	body         string // YAML or JSON
	user, group  string // "" for the administrator
}

// answer is what came of it.
type answer struct {
	admitted bool
	images   []string // of what would be stored
	says     string   // why it was denied
}

func (e *environment) do(ctx context.Context, a ask) (answer, error) {
	body, err := yaml.YAMLToJSON([]byte(a.body))
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", a.sentence, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, a.method, e.host+a.path+"?dryRun=All", bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	if a.method == http.MethodPatch {
		request.Header.Set("Content-Type", "application/strategic-merge-patch+json")
	}
	if a.user != "" {
		request.Header.Set("Impersonate-User", a.user)
		request.Header.Set("Impersonate-Group", a.group)
	}
	response, err := e.api.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return answer{}, err
	}
	var object map[string]any
	if err := json.Unmarshal(text, &object); err != nil {
		return answer{}, fmt.Errorf("%w: %s", err, text)
	}
	if response.StatusCode >= 300 {
		says, _ := object["message"].(string)
		return answer{says: says}, nil
	}
	return answer{admitted: true, images: imagesIn(object["spec"], nil)}, nil
}

// imagesIn lists the images of an object, in order.
func imagesIn(value any, images []string) []string {
	switch v := value.(type) {
	case map[string]any:
		keys := []string{}
		for key := range v {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			if text, ok := v[key].(string); ok && (key == "image" || key == "reference") {
				images = append(images, text)
			}
			images = imagesIn(v[key], images)
		}
	case []any:
		for _, element := range v {
			images = imagesIn(element, images)
		}
	}
	return images
}

// decision is what a denial ends with, another one each time.
var decision = regexp.MustCompile(` \(decision [0-9A-Z]{26}\)`)

// reasons are the sentences of the service in a denial, without the decision.
func (a answer) reasons() (reasons []string) {
	for line := range strings.Lines(a.says) {
		if at := strings.Index(line, "failed to verify "); at >= 0 {
			reasons = append(reasons, decision.ReplaceAllString(strings.TrimSpace(line[at:]), ""))
		}
	}
	return reasons
}

// probe tells by two pods whether Kyverno goes by policies.
type probe struct {
	namespace    string
	pins, denies bool // what policies do with a good and a bad image
}

// until waits until Kyverno goes by policies, or by none.
func (e *environment) until(t *testing.T, p probe, inForce bool) {
	t.Helper()
	create := func(image string) ask {
		return ask{sentence: image, method: http.MethodPost, path: "/api/v1/namespaces/" + p.namespace + "/pods", body: e.pod("web-probe", image)}
	}
	err := deployment.Eventually(t.Context(), time.Minute, func() error {
		good, err := e.do(t.Context(), create("sbom-good"))
		if err != nil || !good.admitted || strings.Contains(good.images[0], "@") != (inForce && p.pins) {
			return fmt.Errorf("%v, %w", good, err)
		}
		bad, err := e.do(t.Context(), create("unsigned"))
		if err != nil || bad.admitted == (inForce && p.denies) {
			return fmt.Errorf("%v, %w", bad, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// under gives the answers while policies are in force.
func (e *environment) under(t *testing.T, policies string, p probe, asks []ask) []answer {
	t.Helper()
	ready := []string{}
	for document := range strings.SplitSeq(policies, "\n---\n") {
		var object struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		if object.Kind != "" {
			ready = append(ready, strings.ToLower(object.Kind)+"/"+object.Metadata.Name)
		}
	}
	e.Kubectl(t, policies, "apply", "-f", "-")
	defer func() {
		if output, err := e.Bed.Kubectl(context.Background(), policies, "delete", "--ignore-not-found", "-f", "-"); err != nil {
			t.Errorf("%v: %s", err, output)
		}
		e.until(t, p, false)
	}()
	for _, policy := range ready {
		if err := e.Bed.WaitPolicy(t.Context(), policy); err != nil {
			t.Fatal(err)
		}
	}
	e.until(t, p, true)
	answers := make([]answer, len(asks))
	for i, a := range asks {
		var err error
		if answers[i], err = e.do(t.Context(), a); err != nil {
			t.Fatalf("%s: %v", a.sentence, err)
		}
	}
	return answers
}

// migrated gives the policies that migrate makes.
func (e *environment) migrated(t *testing.T, manifest string) string {
	t.Helper()
	pairs, err := migrate.Policies([]byte(manifest), migrate.Options{URL: "https://" + e.Replicas[0].Secure})
	if err != nil {
		t.Fatal(err)
	}
	documents := []string{}
	for _, pair := range pairs {
		text, err := pair.YAML()
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, string(text))
	}
	return strings.Join(documents, "---\n")
}
