package core_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// FuzzParseRequest holds that any body is understood in full or refused in words, and that what is understood is
// in order.
func FuzzParseRequest(f *testing.F) {
	for _, path := range goldenPaths(f) {
		f.Add(readGolden(f, path).request)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		request, err := core.ParseRequest(body)
		if err != nil {
			var refused *core.RequestError
			if !errors.As(err, &refused) || refused.Code != reason.RequestInvalid || refused.Text == "" {
				t.Fatalf("ParseRequest(%q) = %v, want a *RequestError", body, err)
			}
			return
		}
		plan, err := core.NewPlan(request, everything(), "default")
		if err != nil || len(plan.Images) != len(request.Images) {
			t.Fatalf("NewPlan(%q) plans %d of %d images: %v", body, len(plan.Images), len(request.Images), err)
		}
		inOrder(t, request.Images)
	})
}

// inOrder demands images in the order of their pointers, each of them once.
func inOrder(t *testing.T, images []core.Image) {
	t.Helper()
	for i := 1; i < len(images); i++ {
		if images[i-1].Pointer.Compare(images[i].Pointer) >= 0 {
			t.Fatalf("%s comes before %s", images[i-1].Pointer, images[i].Pointer)
		}
	}
}

// FuzzObjectPointers holds that every pointer into an object points at just the text that was taken from there,
// and that no container of a pod spec is left out.
func FuzzObjectPointers(f *testing.F) {
	for _, path := range goldenPaths(f) {
		var request struct{ Object json.RawMessage }
		if json.Unmarshal(readGolden(f, path).request, &request) == nil && request.Object != nil {
			f.Add([]byte(request.Object))
		}
	}
	f.Add([]byte(`{"kind":"X","a/b~c":{"":{"spec":{"initContainers":[{"image":"a"}]}}}}`))
	f.Fuzz(func(t *testing.T, object []byte) {
		var document any
		if json.Unmarshal(object, &document) != nil {
			return
		}
		request, err := core.ParseRequest(slices.Concat([]byte(`{"object":`), object, []byte(`}`)))
		if err != nil {
			return
		}
		if len(request.Images) == 0 {
			t.Fatalf("%s gives no images and no error", object)
		}
		for _, image := range request.Images {
			if found := resolve(document, string(image.Pointer)); found != image.Written {
				t.Fatalf("%s: %s points at %v, want %q", object, image.Pointer, found, image.Written)
			}
		}
		inOrder(t, request.Images)
	})
}

// resolve finds what a JSON pointer points at, as RFC 6901 section 4 says; nil where there is nothing.
func resolve(document any, pointer string) any {
	unescape := strings.NewReplacer("~0", "~", "~1", "/")
	for _, token := range strings.Split(pointer, "/")[1:] {
		token = unescape.Replace(token)
		switch d := document.(type) {
		case map[string]any:
			document = d[token]
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(d) || strconv.Itoa(i) != token {
				return nil
			}
			document = d[i]
		default:
			return nil
		}
	}
	return document
}
