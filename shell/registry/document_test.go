package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/shell/fair"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
)

// TestResolveGivesDescriptors whatever a registry or proxy omits in its answer to HEAD, and refuses answers that
// contradict themselves.
func TestResolveGivesDescriptors(t *testing.T) {
	header := func(key, value string) registrytest.Fault {
		return registrytest.EditHeader(func(h http.Header) {
			if h.Del(key); value != "" {
				h.Set(key, value)
			}
		})
	}
	head := func(fault registrytest.Fault) registrytest.Fault {
		return registrytest.Only(registrytest.Method(http.MethodHead), fault)
	}
	get := func(fault registrytest.Fault) registrytest.Fault {
		return registrytest.Only(registrytest.Method(http.MethodGet), fault)
	}
	status := func(status int) registrytest.Fault { return registrytest.FailTimes(-1, status, nil) }
	other := digest.FromString("other").String()
	wrong := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		registrytest.SwapBody([]byte(`{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageManifest+`"}`), nil)(w, r, next)
	}
	tests := map[string]struct {
		fault  registrytest.Fault
		tag    reason.Code // "" where all goes well in the end
		digest reason.Code
		asked  int
	}{
		"all is well":                            {nil, "", "", 1},
		"HEAD has no length":                     {head(header("Content-Length", "")), "", "", 2},
		"HEAD has a length of 0":                 {head(header("Content-Length", "0")), "", "", 2},
		"HEAD is packed":                         {head(header("Content-Encoding", "gzip")), "", "", 2},
		"all is packed":                          {registrytest.Pack, "", "", 2},
		"HEAD has a generic type":                {head(header("Content-Type", "application/octet-stream")), "", "", 2},
		"all has a generic type":                 {header("Content-Type", "application/json; charset=utf-8"), "", "", 2},
		"all has the type of text":               {header("Content-Type", "text/plain"), "", "", 2},
		"a type with parameters":                 {header("Content-Type", strings.ToUpper(ocispec.MediaTypeImageManifest)+" ; charset=utf-8"), "", "", 1},
		"HEAD is not allowed":                    {head(status(405)), "", "", 2},
		"HEAD is not implemented":                {head(status(501)), "", "", 0},
		"HEAD finds nothing":                     {head(status(404)), "", "", 2},
		"HEAD is a bad request":                  {head(status(400)), "", "", 2},
		"HEAD is refused":                        {head(status(403)), reason.RegistryUnauthorized, reason.RegistryUnauthorized, 1},
		"nothing is there":                       {status(404), reason.ImageNotFound, reason.ImageNotFound, 2},
		"no digest of HEAD":                      {head(header("Docker-Content-Digest", "")), "", "", 0},
		"no digest at all":                       {header("Docker-Content-Digest", ""), "", "", 0},
		"no digest, and nothing else":            {registrytest.Chain(header("Docker-Content-Digest", ""), header("Content-Type", ""), header("Content-Length", "")), "", "", 2},
		"a wrong digest of HEAD, the rest left":  {head(registrytest.Chain(header("Docker-Content-Digest", other), header("Content-Type", ""))), "", reason.RegistryInvalid, 0},
		"a wrong digest of GET":                  {registrytest.Chain(head(status(405)), get(header("Docker-Content-Digest", other))), reason.RegistryInvalid, reason.RegistryInvalid, 2},
		"a digest that is none":                  {header("Docker-Content-Digest", "sha256:no"), reason.RegistryInvalid, reason.RegistryInvalid, 1},
		"a digest by MD5":                        {header("Docker-Content-Digest", "md5:d41d8cd98f00b204e9800998ecf8427e"), reason.RegistryInvalid, reason.RegistryInvalid, 1},
		"other content than the digest's":        {registrytest.Chain(head(status(405)), get(wrong)), reason.RegistryInvalid, reason.RegistryInvalid, 2},
		"half of it, as if it were all":          {registrytest.Chain(head(status(405)), get(registrytest.CutShort)), reason.RegistryInvalid, reason.RegistryInvalid, 2},
		"half of it, and a connection that ends": {registrytest.Chain(head(status(405)), get(registrytest.Truncate)), reason.RegistryUnavailable, reason.RegistryUnavailable, 2},
		"half of it in chunks":                   {registrytest.Chain(head(status(405)), get(registrytest.EndEarly)), reason.RegistryUnavailable, reason.RegistryUnavailable, 2},
		"a type that contradicts the content":    {registrytest.Chain(head(status(405)), get(header("Content-Type", ocispec.MediaTypeImageIndex))), reason.RegistryInvalid, reason.RegistryInvalid, 2},
		"packed in a way that nobody asked for":  {registrytest.Chain(head(status(405)), get(header("Content-Encoding", "br"))), reason.RegistryInvalid, reason.RegistryInvalid, 2},
		"said to be packed, and not":             {registrytest.Chain(head(status(405)), get(header("Content-Encoding", "gzip"))), reason.RegistryInvalid, reason.RegistryInvalid, 2},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			s := stocked(t, registrytest.Options{}, nil)
			pushed := s.push(t, "other")
			repository := s.client.Repository(image.Reference{Registry: s.registry.Host(), Repository: "acme/other"})
			s.registry.Reset()
			s.registry.SetFault(test.fault)
			for want, ref := range map[*reason.Code]image.Reference{&test.tag: {Tag: "v1"}, &test.digest: {Digest: pushed.Digest.String()}} {
				s.registry.Reset()
				got, err := repository.Resolve(t.Context(), ref)
				faultCase{want: *want}.check(t, err)
				if err == nil && (got.Digest != pushed.Digest || got.Size != pushed.Size || got.MediaType != pushed.MediaType) {
					t.Errorf("%+v: %+v; want %+v", ref, got, pushed)
				}
				if n := len(s.registry.Requests()); test.asked != 0 && n != test.asked && *want == "" {
					t.Errorf("%+v: %d requests; want %d", ref, n, test.asked)
				}
			}
		})
	}
}

// TestManifestRefusesInvalidDocuments and blames the artifact, whose digest holds. The digest does not cover the media
// type of the answer, which some registries take from the last push.
func TestManifestRefusesInvalidDocuments(t *testing.T) {
	layer := fmt.Sprintf(`{"mediaType":"application/json","digest":%q,"size":2}`, digest.FromString("{}"))
	config := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":2}`, ocispec.MediaTypeEmptyJSON, digest.FromString("{}"))
	good := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"x/y","config":%s,"layers":[%s],"subject":%s,"annotations":{"Layers":"1","layers":"2"}}`, ocispec.MediaTypeImageManifest, config, layer, layer)
	with := func(fields string) string { return strings.Replace(good, "{", "{"+fields+",", 1) }
	tests := map[string]struct {
		text, contentType string
		good              bool
	}{
		"a manifest":                            {good, ocispec.MediaTypeImageManifest, true},
		"a type in capitals, with a parameter":  {good, "Application/vnd.oci.image.manifest.V1+json; charset=utf-8", true},
		"a generic type":                        {good, "application/json", true},
		"no type":                               {good, "", true},
		"no media type inside":                  {strings.Replace(good, fmt.Sprintf(`"mediaType":%q,`, ocispec.MediaTypeImageManifest), "", 1), ocispec.MediaTypeImageManifest, true},
		"no media type anywhere":                {strings.Replace(good, fmt.Sprintf(`"mediaType":%q,`, ocispec.MediaTypeImageManifest), "", 1), "application/json", true},
		"no media type, said to be of Docker":   {strings.Replace(good, fmt.Sprintf(`"mediaType":%q,`, ocispec.MediaTypeImageManifest), "", 1), mediaTypeDockerManifest, true},
		"no media type, said to be an index":    {strings.Replace(good, fmt.Sprintf(`"mediaType":%q,`, ocispec.MediaTypeImageManifest), "", 1), ocispec.MediaTypeImageIndex, true},
		"an index without media type":           {`{"schemaVersion":2,"manifests":[]}`, ocispec.MediaTypeImageManifest, false},
		"data inside a descriptor":              {strings.Replace(good, `"size":2}`, `"size":2,"data":"e30="}`, 1), ocispec.MediaTypeImageManifest, true},
		"an artifact manifest":                  {fmt.Sprintf(`{"mediaType":%q,"artifactType":"x/y","blobs":[%s]}`, mediaTypeArtifactManifest, layer), mediaTypeArtifactManifest, true},
		"an index":                              {indexOf(), ocispec.MediaTypeImageIndex, false},
		"an index, said to be a manifest":       {indexOf(), ocispec.MediaTypeImageManifest, false},
		"a manifest, said to be an index":       {good, ocispec.MediaTypeImageIndex, true},
		"a manifest, said to be of Docker":      {good, mediaTypeDockerManifest, true},
		"a manifest that says it is an index":   {strings.Replace(good, ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, 1), ocispec.MediaTypeImageManifest, false},
		"the same, said so":                     {strings.Replace(good, ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, 1), ocispec.MediaTypeImageIndex, false},
		"a manifest of Docker":                  {strings.Replace(good, ocispec.MediaTypeImageManifest, mediaTypeDockerManifest, 1), mediaTypeDockerManifest, false},
		"an index and a manifest in one":        {with(`"manifests":[]`), ocispec.MediaTypeImageManifest, false},
		"layers and blobs":                      {with(`"blobs":[]`), ocispec.MediaTypeImageManifest, false},
		"a field twice":                         {with(`"layers":[]`), ocispec.MediaTypeImageManifest, false},
		"a field twice but for a letter":        {with(`"Layers":[]`), ocispec.MediaTypeImageManifest, false},
		"a field twice, behind":                 {strings.TrimSuffix(good, "}") + `,"SUBJECT":` + config + `}`, ocispec.MediaTypeImageManifest, false},
		"a field in letters that fold":          {with(`"ſubject":` + config), ocispec.MediaTypeImageManifest, false},
		"a field of a descriptor twice":         {strings.Replace(good, `"size":2`, `"size":1,"size":2`, 1), ocispec.MediaTypeImageManifest, false},
		"a descriptor's field but for a letter": {strings.Replace(good, `"size":2`, `"size":2,"Digest":"x"`, 1), ocispec.MediaTypeImageManifest, false},
		"a negative size":                       {strings.ReplaceAll(good, `"size":2`, `"size":-2`), ocispec.MediaTypeImageManifest, false},
		"a size that overflows":                 {strings.ReplaceAll(good, `"size":2`, `"size":18446744073709551618`), ocispec.MediaTypeImageManifest, false},
		"two documents":                         {good + good, ocispec.MediaTypeImageManifest, false},
		"something behind it":                   {good + "x", ocispec.MediaTypeImageManifest, false},
		"a byte order mark":                     {"\ufeff" + good, ocispec.MediaTypeImageManifest, false},
		"no JSON":                               {"x", ocispec.MediaTypeImageManifest, false},
		"a list":                                {"[" + good + "]", ocispec.MediaTypeImageManifest, false},
		"null":                                  {"null", ocispec.MediaTypeImageManifest, false},
		"too deep":                              {with(`"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000)), ocispec.MediaTypeImageManifest, false},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			repository, _ := served(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = nil
				if test.contentType != "" {
					w.Header().Set("Content-Type", test.contentType)
				}
				fmt.Fprint(w, test.text)
			}, Options{})
			named := digest.FromString(test.text)
			manifest, descriptor, err := repository.Manifest(t.Context(), named)
			if (err == nil) != test.good || err != nil && !errors.Is(err, ErrUnusable) {
				t.Fatalf("%v; good should be %t", err, test.good)
			}
			if err == nil && (descriptor.Size != int64(len(test.text)) || descriptor.Digest != named || descriptor.MediaType != lo.Ternary(strings.Contains(test.text, mediaTypeArtifactManifest), mediaTypeArtifactManifest, ocispec.MediaTypeImageManifest) || len(manifest.Layers) != 1) {
				t.Errorf("%+v with %d layers", descriptor, len(manifest.Layers))
			}
		})
	}
}

// TestBlobVerifiesContent and blames the artifact for a wrong size, and the registry for wrong content.
func TestBlobVerifiesContent(t *testing.T) {
	const text = "the content"
	content := digest.FromString(text)
	tests := map[string]struct {
		descriptor ocispec.Descriptor
		fault      registrytest.Fault // before the content
		code       reason.Code        // "" where all goes well
		unusable   bool
		absent     bool
	}{
		"all is well":                         {ocispec.Descriptor{Digest: content, Size: int64(len(text))}, nil, "", false, false},
		"by SHA-512":                          {ocispec.Descriptor{Digest: digest.SHA512.FromString(text), Size: int64(len(text))}, nil, "", false, false},
		"packed on the way":                   {ocispec.Descriptor{Digest: content, Size: int64(len(text))}, registrytest.Pack, "", false, false},
		"data beside the digest":              {ocispec.Descriptor{Digest: content, Size: int64(len(text)), Data: []byte("other words")}, nil, "", false, false},
		"said to be shorter":                  {ocispec.Descriptor{Digest: content, Size: 3}, nil, reason.RegistryInvalid, true, false},
		"said to be longer":                   {ocispec.Descriptor{Digest: content, Size: 90}, nil, reason.RegistryInvalid, true, false},
		"said to be of no size":               {ocispec.Descriptor{Digest: content}, nil, reason.RegistryInvalid, true, false},
		"said to be of a negative size":       {ocispec.Descriptor{Digest: content, Size: -1}, nil, reason.RegistryInvalid, true, false},
		"said to be too long":                 {ocispec.Descriptor{Digest: content, Size: 101}, nil, reason.RegistryInvalid, true, false},
		"too long, whatever is said":          {ocispec.Descriptor{Digest: content, Size: 3}, registrytest.SwapBody([]byte(strings.Repeat("x", 1000)), nil), reason.RegistryInvalid, true, false},
		"a digest by SHA-384":                 {ocispec.Descriptor{Digest: digest.SHA384.FromString(text), Size: int64(len(text))}, nil, reason.RegistryInvalid, true, false},
		"not there":                           {ocispec.Descriptor{Digest: content, Size: int64(len(text))}, registrytest.FailTimes(-1, 404, nil), reason.RegistryInvalid, true, true},
		"other content":                       {ocispec.Descriptor{Digest: content, Size: int64(len(text))}, registrytest.SwapBody([]byte("the CONTENT"), nil), reason.RegistryInvalid, false, false},
		"shorter content":                     {ocispec.Descriptor{Digest: content, Size: int64(len(text))}, registrytest.CutShort, reason.RegistryInvalid, false, false},
		"longer content":                      {ocispec.Descriptor{Digest: content, Size: int64(len(text))}, registrytest.SwapBody([]byte(text+"s"), nil), reason.RegistryInvalid, false, false},
		"content that breaks off":             {ocispec.Descriptor{Digest: content, Size: int64(len(text))}, registrytest.Truncate, reason.RegistryUnavailable, false, false},
		"content that breaks off in chunks":   {ocispec.Descriptor{Digest: content, Size: int64(len(text))}, registrytest.EndEarly, reason.RegistryUnavailable, false, false},
		"refused":                             {ocispec.Descriptor{Digest: content, Size: int64(len(text))}, registrytest.FailTimes(-1, 403, nil), reason.RegistryUnauthorized, false, false},
		"no content, though it is said to be": {ocispec.Descriptor{Digest: content, Size: int64(len(text))}, registrytest.Answer(204, nil, ""), reason.RegistryUnavailable, false, false},
		"a part of the content":               {ocispec.Descriptor{Digest: content, Size: int64(len(text))}, registrytest.Answer(206, nil, text), reason.RegistryUnavailable, false, false},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			repository, _ := served(t, func(w http.ResponseWriter, r *http.Request) {
				plain := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Length", strconv.Itoa(len(text)))
					fmt.Fprint(w, text)
				})
				if test.fault == nil {
					plain(w, r)
					return
				}
				test.fault(w, r, plain)
			}, Options{})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			data, err := repository.Blob(ctx, test.descriptor, 100)
			faultCase{want: test.code}.check(t, err)
			if err == nil && string(data) != text {
				t.Errorf("%q", data)
			}
			if errors.Is(err, ErrUnusable) != test.unusable || errors.Is(err, ErrAbsent) != test.absent {
				t.Errorf("%v: unusable should be %t, absent %t", err, test.unusable, test.absent)
			}
		})
	}
}

// TestLongDocumentsTakeTurns by registry, while short ones do not wait.
func TestLongDocumentsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		open := func(registry string) *fair.LongBody {
			r := &reader{root: &url.URL{Host: registry}, documents: client.documents}
			return r.longDocument(t.Context(), io.NopCloser(strings.NewReader(strings.Repeat(" ", 3*longDocument))))
		}
		read := func(d *fair.LongBody) <-chan error {
			done := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, d)
				done <- err
			}()
			synctest.Wait()
			return done
		}
		documents := []*fair.LongBody{open("a"), open("a"), open("a"), open("b")}
		var done []<-chan error
		for _, d := range documents {
			done = append(done, read(d))
		}
		for i, want := range []int{1, 1, 0, 1} {
			if len(done[i]) != want {
				t.Errorf("document %d has been read: %d", i, len(done[i]))
			}
		}
		short := open("a")
		if _, err := io.CopyN(io.Discard, short, longDocument); err != nil {
			t.Errorf("a short document: %v", err)
		}
		documents[0].Close()
		synctest.Wait()
		if len(done[2]) != 1 {
			t.Error("the turn of the last did not come")
		}
		for _, d := range documents {
			d.Close()
		}
	})
}

// TestManifestRefusesTooManyElements since decoding cannot be interrupted.
func TestManifestRefusesTooManyElements(t *testing.T) {
	for again, each := range map[string]int{"{},": 2, "1,": 1, `{"a":[{"a":[]}]},`: 5} {
		for n, long := range map[int]bool{maxParts - 10: false, maxParts + 10: true} {
			text := `{"layers":[` + strings.Repeat(again, n/each) + `1]}`
			_, err := readDocument(&http.Response{Body: io.NopCloser(strings.NewReader(text))}, maxParts)
			if errors.Is(err, errTooLong) != long {
				t.Errorf("%d times %s: %v", n/each, again, err)
			}
		}
	}
}
