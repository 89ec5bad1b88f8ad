package kubeclient_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// answers is a transport.
type answers func(*http.Request) (*http.Response, error)

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

// TestListsAreReadInPages as small as the target says: objects of others may be large.
func TestListsAreReadInPages(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	limit := ""
	client, err := kubeclient.New(&rest.Config{Host: "http://api.example", QPS: 1000, Burst: 1000, Transport: answers(func(r *http.Request) (*http.Response, error) {
		query := r.URL.Query()
		if query.Get("watch") == "" {
			limit = query.Get("limit")
			cancel()
		}
		return &http.Response{StatusCode: http.StatusUnprocessableEntity, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
			Body: io.NopCloser(strings.NewReader(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`))}, nil
	})}, "ours")
	if err != nil {
		t.Fatal(err)
	}
	target := kubeclient.Target{Resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, Page: 100}
	client.Watch(ctx, target, cache.NewStore(cache.MetaNamespaceKeyFunc), kubeclient.NewHealth(slog.New(slog.DiscardHandler), "pods", target))
	if limit != "100" {
		t.Errorf("%q objects at once", limit)
	}
}
