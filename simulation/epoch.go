package simulation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

const (
	namespace = "ours"
	epochName = "epoch"
)

// coreClient is the link as the client of the core group. Client-go makes requests of Go types itself, so they arrive as HTTP.
func (l *link) coreClient() core.CoreV1Interface {
	content := rest.ClientContentConfig{
		AcceptContentTypes: runtime.ContentTypeJSON, ContentType: runtime.ContentTypeJSON, GroupVersion: v1.SchemeGroupVersion,
		Negotiator: runtime.NewClientNegotiator(scheme.Codecs.WithoutConversion(), v1.SchemeGroupVersion),
	}
	client, err := rest.NewRESTClient(&url.URL{Scheme: "http", Host: "api.example"}, "/api/v1", content, nil, &http.Client{Transport: l})
	if err != nil {
		panic(err)
	}
	return core.New(client)
}

// RoundTrip answers requests about the ConfigMap of the epoch.
func (l *link) RoundTrip(r *http.Request) (*http.Response, error) {
	configMaps := schema.GroupResource{Resource: "configmaps"}
	if err := l.call(r.Context(), configMaps); err != nil {
		return failed(r, err)
	}
	s, query := l.server, r.URL.Query()
	switch {
	case r.Method == http.MethodPatch:
		var patch struct{ Data map[string]any }
		if err := json.NewDecoder(r.Body).Decode(&patch); err != nil {
			return nil, err
		}
		return answered(r, http.StatusOK, s.put(&s.configMaps, epochName, map[string]any{"data": patch.Data}).Object), nil
	case query.Get("sendInitialEvents") != "":
		return failed(r, apierrors.NewInvalid(schema.GroupKind{}, "", nil))
	case query.Get("watch") != "":
		watched, err := l.watch(&s.configMaps, metav1.ListOptions{ResourceVersion: query.Get("resourceVersion")})
		if err != nil {
			return failed(r, err)
		}
		return response(r, http.StatusOK, &lines{ctx: r.Context(), from: watched}), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	items := []any{}
	for _, object := range s.configMaps.objects {
		items = append(items, object.Object)
	}
	return answered(r, http.StatusOK, map[string]any{
		"apiVersion": "v1", "kind": "ConfigMapList", "items": items, "metadata": map[string]any{"resourceVersion": strconv.Itoa(s.version)},
	}), nil
}

// failed is the answer of an API server that has one.
func failed(r *http.Request, err error) (*http.Response, error) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return nil, err
	}
	answer := status.Status()
	answer.APIVersion, answer.Kind = "v1", "Status"
	return answered(r, int(answer.Code), answer), nil
}

func answered(r *http.Request, code int, object any) *http.Response {
	text, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	return response(r, code, io.NopCloser(bytes.NewReader(text)))
}

func response(r *http.Request, code int, body io.ReadCloser) *http.Response {
	return &http.Response{
		Status: http.StatusText(code), StatusCode: code, Header: http.Header{"Content-Type": {runtime.ContentTypeJSON}}, ContentLength: -1,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, Body: body,
	}
}

// lines is a watch as the body of an answer.
type lines struct {
	ctx  context.Context
	from watch.Interface
	rest strings.Reader
}

// Read gives the next event, when there is one.
func (l *lines) Read(into []byte) (int, error) {
	if l.rest.Len() == 0 {
		select {
		case event, ok := <-l.from.ResultChan():
			if !ok {
				return 0, io.EOF
			}
			text, err := json.Marshal(map[string]any{"type": event.Type, "object": event.Object.(*unstructured.Unstructured).Object})
			if err != nil {
				return 0, err
			}
			l.rest.Reset(string(text) + "\n")
		case <-l.ctx.Done():
			l.from.Stop()
			return 0, l.ctx.Err()
		}
	}
	return l.rest.Read(into)
}

// Close ends the watch.
func (l *lines) Close() error {
	l.from.Stop()
	return nil
}
