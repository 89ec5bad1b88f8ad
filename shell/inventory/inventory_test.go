package inventory_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/shell/inventory"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

type object = map[string]any

// cluster is an API server that lists objects in pages.
type cluster struct {
	lists map[string][]object // by path of the collection
	one   map[string]object   // by path
	kinds map[string]string   // of the lists

	mu       sync.Mutex
	requests []string // path and query
	gone     int      // so many times, what a list continues with has expired
	newer    string   // with which it goes on then
	refuse   string   // path that is forbidden
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, r.URL.Path+"?"+r.URL.RawQuery)
	w.Header().Set("Content-Type", "application/json")
	query := r.URL.Query()
	from, _ := strconv.Atoi(query.Get("continue"))
	limit, _ := strconv.Atoi(query.Get("limit"))
	items, known := c.lists[r.URL.Path]
	switch {
	case r.URL.Path == c.refuse:
		fail(w, http.StatusForbidden, "Forbidden")
		return
	case c.one[r.URL.Path] != nil:
		_ = json.NewEncoder(w).Encode(c.one[r.URL.Path])
		return
	case !known:
		fail(w, http.StatusNotFound, "NotFound")
		return
	case from > 0 && c.gone > 0:
		c.gone--
		w.WriteHeader(http.StatusGone)
		_ = json.NewEncoder(w).Encode(object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": http.StatusGone, "metadata": object{"continue": c.newer}})
		return
	}
	end, next := len(items), ""
	if limit > 0 && from+limit < end {
		end = from + limit
		next = strconv.Itoa(end)
	}
	kind, version, _ := strings.Cut(c.kinds[r.URL.Path], " ")
	_ = json.NewEncoder(w).Encode(object{"kind": kind, "apiVersion": version, "metadata": object{"resourceVersion": "1", "continue": next}, "items": items[from:end]})
}

func fail(w http.ResponseWriter, code int, reason string) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": reason})
}

// Paths of collections.
const (
	allPods = "/api/v1/pods"
	allSets = "/apis/apps/v1/replicasets"
	allJobs = "/apis/batch/v1/jobs"
)

func newCluster(pods []object, sets, jobs []object) *cluster {
	const partial = "PartialObjectMetadataList meta.k8s.io/v1"
	return &cluster{
		lists: map[string][]object{allPods: pods, allSets: sets, allJobs: jobs},
		kinds: map[string]string{allPods: "PodList v1", allSets: partial, allJobs: partial},
	}
}

// connect makes a client that does not wait between requests.
func (c *cluster) connect(t *testing.T) *kubeclient.Client {
	t.Helper()
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	client, err := kubeclient.New(&rest.Config{Host: server.URL, QPS: 10_000, Burst: 10_000}, "default")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// counted gives the requests for a collection.
func (c *cluster) counted(path string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, request := range c.requests {
		if strings.HasPrefix(request, path+"?") {
			n++
		}
	}
	return n
}

func owner(version, kind, name, uid string) []object {
	return []object{{"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true}}
}

func pod(namespace, name string, owners []object, image, imageID string) object {
	return object{
		"metadata": object{"namespace": namespace, "name": name, "ownerReferences": owners},
		"spec":     object{"containers": []object{{"name": "app", "image": image}}},
		"status":   object{"containerStatuses": []object{{"name": "app", "image": image, "imageID": imageID}}},
	}
}

func partial(namespace, name, uid string, owners []object) object {
	return object{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object{"namespace": namespace, "name": name, "uid": uid, "ownerReferences": owners}}
}

const image = "reg.example/acme/app:v1"

var digest = "sha256:" + strings.Repeat("a", 64)

func uses(t *testing.T, c *cluster, options inventory.Options) []audit.Use {
	t.Helper()
	found, err := inventory.Uses(t.Context(), c.connect(t), options)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestUsesBelongToTheTopmostOwner, whatever lies between it and the pod.
func TestUsesBelongToTheTopmostOwner(t *testing.T) {
	for sentence, tt := range map[string]struct {
		owners     []object
		sets, jobs []object
		want       string
		lists      int // of ReplicaSets and Jobs
	}{
		"a pod alone":                         {nil, nil, nil, "Pod/x", 0},
		"a static pod":                        {owner("v1", "Node", "node-1", "n"), nil, nil, "Pod/x", 0},
		"a StatefulSet":                       {owner("apps/v1", "StatefulSet", "db", "s"), nil, nil, "StatefulSet/db", 0},
		"a ReplicaSet of a Deployment":        {owner("apps/v1", "ReplicaSet", "web-1", "r"), []object{partial("team-a", "web-1", "r", owner("apps/v1", "Deployment", "web", "d"))}, nil, "Deployment/web", 1},
		"a ReplicaSet of a Rollout":           {owner("apps/v1", "ReplicaSet", "web-1", "r"), []object{partial("team-a", "web-1", "r", owner("argoproj.io/v1alpha1", "Rollout", "web", "d"))}, nil, "Rollout/web", 1},
		"a ReplicaSet alone":                  {owner("apps/v1", "ReplicaSet", "web-1", "r"), []object{partial("team-a", "web-1", "r", nil)}, nil, "ReplicaSet/web-1", 1},
		"a ReplicaSet that is gone":           {owner("apps/v1", "ReplicaSet", "web-1", "r"), []object{partial("team-a", "web-1", "newer", owner("apps/v1", "Deployment", "web", "d"))}, nil, "ReplicaSet/web-1", 1},
		"another namespace's ReplicaSet":      {owner("apps/v1", "ReplicaSet", "web-1", "r"), []object{partial("team-b", "web-1", "r", owner("apps/v1", "Deployment", "web", "d"))}, nil, "ReplicaSet/web-1", 1},
		"a Job of a CronJob":                  {owner("batch/v1", "Job", "n-1", "j"), nil, []object{partial("team-a", "n-1", "j", owner("batch/v1", "CronJob", "n", "c"))}, "CronJob/n", 1},
		"another group's ReplicaSet is other": {owner("acme.example/v1", "ReplicaSet", "web-1", "r"), []object{partial("team-a", "web-1", "r", owner("apps/v1", "Deployment", "web", "d"))}, nil, "ReplicaSet/web-1", 0},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := newCluster([]object{pod("team-a", "x", tt.owners, image, "reg.example/acme/app@"+digest)}, tt.sets, tt.jobs)
			found := uses(t, c, inventory.Options{})
			want := audit.Use{Workload: audit.Workload{Namespace: "team-a", Kind: tt.want[:strings.Index(tt.want, "/")], Name: tt.want[strings.Index(tt.want, "/")+1:]}, Container: "container app", Image: image, Running: digest, Pods: 1}
			if !slices.Equal(found, []audit.Use{want}) {
				t.Errorf("uses %+v, want %+v", found, want)
			}
			if n := c.counted(allSets) + c.counted(allJobs); n != tt.lists {
				t.Errorf("%d lists of owners, want %d", n, tt.lists)
			}
		})
	}
}

func manyPods(n int) (pods, sets []object) {
	for i := range n {
		set := fmt.Sprintf("web-%d", i%2)
		pods = append(pods, pod("team-a", fmt.Sprintf("p-%d", i), owner("apps/v1", "ReplicaSet", set, set), image, "reg.example/acme/app@"+digest))
	}
	for i := range 2 {
		set := fmt.Sprintf("web-%d", i)
		sets = append(sets, partial("team-a", set, set, owner("apps/v1", "Deployment", "web", "d")))
	}
	return pods, sets
}

// TestPodsAreReadInPages, with as many requests as there are pages, and those of one workload are one use.
func TestPodsAreReadInPages(t *testing.T) {
	pods, sets := manyPods(1201)
	c := newCluster(pods, sets, nil)
	found := uses(t, c, inventory.Options{})
	if len(found) != 1 || found[0].Pods != 1201 || found[0].Name != "web" {
		t.Errorf("uses %+v", found)
	}
	if n := c.counted(allPods); n != 3 {
		t.Errorf("%d requests for pods, want 3", n)
	}
	if n := c.counted(allSets); n != 1 {
		t.Errorf("%d requests for ReplicaSets, want 1", n)
	}
	for _, request := range c.requests {
		if strings.HasPrefix(request, allPods) && (!strings.Contains(request, "limit=500") || !strings.Contains(request, "status.phase%21%3DSucceeded")) {
			t.Errorf("request %s", request)
		}
	}
}

// TestAnExpiredPageMissesNothing: the API server forgets the state of the list, and says how to go on. Where it does not, or does
// so again and again, the list is no list.
func TestAnExpiredPageMissesNothing(t *testing.T) {
	for sentence, tt := range map[string]struct {
		gone  int
		newer string
		fails bool
	}{
		"it goes on with a newer state": {1, "500", false},
		"it cannot go on":               {1, "", true},
		"it expires again at once":      {2, "500", true},
	} {
		t.Run(sentence, func(t *testing.T) {
			pods, sets := manyPods(700)
			c := newCluster(pods, sets, nil)
			c.gone, c.newer = tt.gone, tt.newer
			found, err := inventory.Uses(t.Context(), c.connect(t), inventory.Options{})
			if (err != nil) != tt.fails || err == nil && (len(found) != 1 || found[0].Pods != 700) {
				t.Errorf("uses %+v, %v", found, err)
			}
		})
	}
}

func TestNamespacesAreChosen(t *testing.T) {
	a, b := pod("team-a", "x", nil, image, ""), pod("team-b", "x", nil, image, "")
	c := newCluster([]object{a, b}, nil, nil)
	if found := uses(t, c, inventory.Options{Except: []string{"team-a"}}); len(found) != 1 || found[0].Namespace != "team-b" {
		t.Errorf("uses %+v", found)
	}
	const only = "/api/v1/namespaces/team-a/pods"
	c.lists[only], c.kinds[only] = []object{a}, "PodList v1"
	c.requests = nil
	if found := uses(t, c, inventory.Options{Namespaces: []string{"team-a"}}); len(found) != 1 || found[0].Namespace != "team-a" || c.counted(allPods) != 0 {
		t.Errorf("uses %+v, requests %q", found, c.requests)
	}
}

// TestANamespaceWithoutPodsIsNoGoodOne, since its name may be misspelled.
func TestANamespaceWithoutPodsIsNoGoodOne(t *testing.T) {
	c := newCluster(nil, nil, nil)
	for namespace, pods := range map[string][]object{"team-a": {pod("team-a", "x", nil, image, "")}, "team-x": {}} {
		path := "/api/v1/namespaces/" + namespace + "/pods"
		c.lists[path], c.kinds[path] = pods, "PodList v1"
	}
	found, err := inventory.Uses(t.Context(), c.connect(t), inventory.Options{Namespaces: []string{"team-a", "team-x"}})
	if err == nil || !strings.Contains(err.Error(), `namespace "team-x"`) {
		t.Errorf("uses %+v, %v", found, err)
	}
}

// TestEveryImageOfAPodIsRead: containers of all kinds and image volumes, and what runs of each.
func TestEveryImageOfAPodIsRead(t *testing.T) {
	whole := object{
		"metadata": object{"namespace": "team-a", "name": "x"},
		"spec": object{
			"initContainers":      []object{{"name": "setup", "image": "setup:v1"}},
			"containers":          []object{{"name": "app", "image": "app:v1"}, {"name": "new", "image": "new:v1"}},
			"ephemeralContainers": []object{{"name": "debug", "image": "debug:v1"}},
			"volumes":             []object{{"name": "model", "image": object{"reference": "model:v1"}}, {"name": "tmp", "emptyDir": object{}}},
		},
		"status": object{
			"initContainerStatuses":      []object{{"name": "setup", "imageID": "x/setup@" + digest}},
			"containerStatuses":          []object{{"name": "app", "imageID": "docker-pullable://x/app@" + digest}, {"name": "new", "imageID": ""}},
			"ephemeralContainerStatuses": []object{{"name": "debug", "imageID": digest}},
		},
	}
	var got []string
	for _, use := range uses(t, newCluster([]object{whole}, nil, nil), inventory.Options{}) {
		got = append(got, use.Container+" "+use.Image+" "+strings.TrimPrefix(use.Running, digest[:8]))
	}
	runs := strings.TrimPrefix(digest, digest[:8])
	want := []string{"container app app:v1 " + runs, "container new new:v1 ", "ephemeral container debug debug:v1 ", "image volume model model:v1 ", "init container setup setup:v1 " + runs}
	if !slices.Equal(got, want) {
		t.Errorf("uses\n%q, want\n%q", got, want)
	}
}

// TestNamespacesAreReadWithTheirLabels: all of them in pages, or those that are named by themselves, as who asks may read no others.
func TestNamespacesAreReadWithTheirLabels(t *testing.T) {
	const all = "/api/v1/namespaces"
	namespace := func(name string) object {
		return object{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object{"name": name, "labels": object{"team": name}}}
	}
	var many []object
	for i := range 501 {
		many = append(many, namespace(fmt.Sprint("n", i)))
	}
	c := newCluster(nil, nil, nil)
	c.lists[all], c.kinds[all] = many, "PartialObjectMetadataList meta.k8s.io/v1"
	c.one = map[string]object{all + "/n7": namespace("n7")}
	found, err := inventory.Namespaces(t.Context(), c.connect(t), nil)
	if err != nil || len(found) != 501 || found["n500"]["team"] != "n500" || c.counted(all) != 2 {
		t.Errorf("%d namespaces by %d requests, %v", len(found), c.counted(all), err)
	}
	found, err = inventory.Namespaces(t.Context(), c.connect(t), []string{"n7", "absent"})
	if err != nil || len(found) != 1 || found["n7"]["team"] != "n7" || c.counted(all) != 2 {
		t.Errorf("namespaces %+v, %v", found, err)
	}
	for sentence, named := range map[string][]string{"listing namespaces": nil, `reading namespace "n7"`: {"n7"}} {
		c.refuse = all
		if named != nil {
			c.refuse = all + "/n7"
		}
		if found, err := inventory.Namespaces(t.Context(), c.connect(t), named); err == nil || !strings.Contains(err.Error(), sentence) || found != nil {
			t.Errorf("refused: %+v, %v, want %q", found, err, sentence)
		}
	}
}

// TestAListThatIsRefusedIsAnError, and no short list.
func TestAListThatIsRefusedIsAnError(t *testing.T) {
	for path, resource := range map[string]string{allPods: "pods", allSets: "replicasets"} {
		pods, sets := manyPods(1)
		c := newCluster(pods, sets, nil)
		c.refuse = path
		found, err := inventory.Uses(t.Context(), c.connect(t), inventory.Options{})
		if err == nil || !strings.Contains(err.Error(), "listing "+resource) || found != nil {
			t.Errorf("%s refused: %+v, %v", resource, found, err)
		}
	}
	c := newCluster(nil, nil, nil)
	if found, err := inventory.Trust(t.Context(), c.connect(t)); err == nil || len(found.Policies) > 0 {
		t.Errorf("trust of a cluster that has no such resources: %+v, %v", found, errors.Unwrap(err))
	}
}

func TestTrustIsRead(t *testing.T) {
	c := newCluster(nil, nil, nil)
	const policies, stores = "/apis/notation.nirmata.io/v1alpha1/trustpolicies", "/apis/notation.nirmata.io/v1alpha1/truststores"
	c.lists[policies] = []object{{"apiVersion": "notation.nirmata.io/v1alpha1", "kind": "TrustPolicy", "metadata": object{"name": "p"}, "spec": object{"trustPolicyName": "demo"}}}
	c.lists[stores] = []object{{"apiVersion": "notation.nirmata.io/v1alpha1", "kind": "TrustStore", "metadata": object{"name": "s"}, "spec": object{"trustStoreName": "acme", "type": "ca"}}}
	c.kinds[policies], c.kinds[stores] = "TrustPolicyList notation.nirmata.io/v1alpha1", "TrustStoreList notation.nirmata.io/v1alpha1"
	found, err := inventory.Trust(t.Context(), c.connect(t))
	if err != nil || len(found.Policies) != 1 || found.Policies[0].Spec.TrustPolicyName != "demo" || len(found.Stores) != 1 || found.Stores[0].Spec.Type != "ca" {
		t.Errorf("trust %+v, %v", found, err)
	}
}

// TestBundlesAreReadByName: what an audit reads of ConfigMaps and Secrets is what trust stores name, and what is wrong with it is told.
func TestBundlesAreReadByName(t *testing.T) {
	const configMaps, secrets = "/api/v1/namespaces/security/configmaps", "/api/v1/namespaces/security/secrets"
	for sentence, tt := range map[string]struct {
		kind   string
		lists  map[string][]object
		refuse string
		want   shelltrust.Bundle
	}{
		"a ConfigMap":           {"configMap", map[string][]object{configMaps: {{"metadata": object{"name": "acme"}, "data": object{"ca.crt": "pem"}}}}, "", shelltrust.Bundle{Text: "pem"}},
		"a Secret":              {"secret", map[string][]object{secrets: {{"metadata": object{"name": "acme"}, "data": object{"ca.crt": "cGVt"}}}}, "", shelltrust.Bundle{Text: "pem"}},
		"one without the key":   {"configMap", map[string][]object{configMaps: {{"metadata": object{"name": "acme"}}}}, "", shelltrust.Bundle{Problem: `has no key "ca.crt"`}},
		"none":                  {"secret", map[string][]object{secrets: nil}, "", shelltrust.Bundle{Problem: "does not exist"}},
		"one that is forbidden": {"configMap", nil, configMaps, shelltrust.Bundle{Problem: "may not be read by this service, which needs list and watch on it: Forbidden"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := newCluster(nil, nil, nil)
			const policies, stores = "/apis/notation.nirmata.io/v1alpha1/trustpolicies", "/apis/notation.nirmata.io/v1alpha1/truststores"
			from := object{tt.kind: object{"namespace": "security", "name": "acme", "key": "ca.crt"}}
			c.lists[policies], c.lists[stores] = nil, []object{{"apiVersion": "notation.nirmata.io/v1alpha1", "kind": "TrustStore", "metadata": object{"name": "s"}, "spec": object{"trustStoreName": "acme", "type": "ca", "caBundleFrom": from}}}
			c.kinds[policies], c.kinds[stores] = "TrustPolicyList notation.nirmata.io/v1alpha1", "TrustStoreList notation.nirmata.io/v1alpha1"
			c.kinds[configMaps], c.kinds[secrets] = "ConfigMapList v1", "SecretList v1"
			maps.Copy(c.lists, tt.lists)
			c.refuse = tt.refuse
			found, err := inventory.Trust(t.Context(), c.connect(t))
			if err != nil || len(found.Stores) != 1 || found.Stores[0].Bundle != tt.want {
				t.Errorf("%+v, %v; want %+v", found.Stores, err, tt.want)
			}
			if last := c.requests[len(c.requests)-1]; !strings.Contains(last, "fieldSelector=metadata.name%3Dacme") {
				t.Errorf("asked for %s", last)
			}
		})
	}
}
