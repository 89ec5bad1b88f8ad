package core

import (
	"path/filepath"
	"reflect"
	"testing"
	"unicode/utf8"

	"golang.org/x/tools/txtar"
)

// bothWays parses a body as one in which nothing calls for a closer look, and as any other. plain tells that it is one.
func bothWays(t *testing.T, data []byte) (plain bool) {
	t.Helper()
	if !utf8.Valid(data) {
		return false
	}
	root, valid, plain := readDocument(data)
	strict, strictErr := strictBody(data)
	if strictErr == nil && !valid {
		t.Fatalf("%q is decoded, but is not a document", data)
	}
	if !valid || !plain {
		return false
	}
	b, ok := plainBody(root)
	if !ok {
		return false
	}
	if strictErr != nil {
		t.Fatalf("%q is plain, and is refused: %v", data, strictErr)
	}
	strict.object, _ = root.member("object")
	got, err := b.request()
	want, wantErr := strict.request()
	if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() || !reflect.DeepEqual(got, want) {
		t.Fatalf("%q is read as\n%+v, %v; want\n%+v, %v", data, got, err, want, wantErr)
	}
	return true
}

// FuzzPlainBody holds that a body that is not given to the strict decoder would be read by it in the same way.
func FuzzPlainBody(f *testing.F) {
	for _, seed := range goldenRequests(f) {
		f.Add(seed)
	}
	for _, seed := range []string{
		`{"object":{"a":1,"a":2}}`, `{"object":{"a":1,"\u0061":2}}`, `{"object":{"a":1e999}}`, `{"object":{"a":-0.0,"b":[true,false,null]}} `,
		`{"images":{"containers":{"web":{"reference":"a","jsonPointer":"/a","tag":"latest"}}},"metadata":null,"insecure":[{"a":"\ud800"}]}`,
		`{"images":{"containers":[]}}`, `{"images":{},"object":[]}`, `{"requireDigest":true,"imageReferences":["*"],"trustPolicy":"\n"}`,
		`{"admission":{"operation":"CREATE","name":"a\u0000","namespace":null}}`, `{"admission":[]}`, `{"admission":{"a":1},"images":{}}`,
		`{"attestations":[{"imageReference":"*","type":[{"name":"a","conditions":{"all":[{"key":"x","operator":"equals","value":[1,2.5]}]}}]}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) { bothWays(t, data) })
}

// TestUsualBodiesArePlain so that they are decoded once.
func TestUsualBodiesArePlain(t *testing.T) {
	for sentence, body := range map[string]string{
		"a pod":             `{"object":{"kind":"Pod","metadata":{"labels":{"app":"web"},"creationTimestamp":null},"spec":{"containers":[{"name":"web","image":"ghcr.io/acme/app:v1","args":["-\n"],"ports":[{"containerPort":8080}]}]}},"trustPolicy":"tp","requireDigest":true,"admission":{"operation":"CREATE","namespace":"shop","name":"web-*"}}`,
		"Kyverno's images":  `{"images":{"containers":{"web":{"registry":"ghcr.io","path":"acme/app","name":"app","tag":"v1","reference":"ghcr.io/acme/app:v1","referenceWithTag":"ghcr.io/acme/app:v1","jsonPointer":"/spec/containers/0/image"}}},"metadata":null,"imageReferences":["*"]}`,
		"an encoded object": `{"encodedObject":"eyJzcGVjIjp7ImNvbnRhaW5lcnMiOlt7ImltYWdlIjoiYSJ9XX19"}`,
		"attestations":      `{"object":{"spec":{"containers":[{"image":"a"}]}},"attestations":[{"imageReference":"*","type":[{"name":"sbom","conditions":{"all":[{"key":"{{ a }}","operator":"Equals","value":1}]}}]}]}`,
	} {
		if !bothWays(t, []byte(body)) {
			t.Errorf("%s is given to the strict decoder", sentence)
		}
		if _, err := ParseRequest([]byte(body)); err != nil {
			t.Errorf("%s: %v", sentence, err)
		}
	}
}

// goldenRequests are the requests of the golden cases.
func goldenRequests(tb testing.TB) (requests [][]byte) {
	tb.Helper()
	paths, err := filepath.Glob("../testdata/golden/*.txtar")
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no golden cases: %v", err)
	}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		for _, file := range archive.Files {
			if file.Name == "request.json" {
				requests = append(requests, file.Data)
			}
		}
	}
	return requests
}

// BenchmarkUsualBody measures what is made of a usual body: the smallest one, and a pod as the API server admits it.
func BenchmarkUsualBody(b *testing.B) {
	const container = `{"name":"c0","image":"ghcr.io/acme/app:v1"`
	for name, body := range map[string]string{
		"least": `{"object":{"kind":"Pod","spec":{"containers":[` + container + `}]}}}`,
		"pod": `{"object":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-6d9f7c5b7-x2x8k","namespace":"shop","labels":{"app":"web","pod-template-hash":"6d9f7c5b7"},` +
			`"annotations":{"prometheus.io/scrape":"true"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-6d9f7c5b7","uid":"1f6a","controller":true}]},` +
			`"spec":{"containers":[` + container + `,"ports":[{"containerPort":8080,"protocol":"TCP"}],"env":[{"name":"A","value":"a \"b\""},{"name":"B","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}],` +
			`"resources":{"limits":{"memory":"128Mi"},"requests":{"cpu":"100m"}},"volumeMounts":[{"name":"token","mountPath":"/var/run/secrets","readOnly":true}],` +
			`"securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}},"imagePullPolicy":"IfNotPresent"}],` +
			`"volumes":[{"name":"token","projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}}],"defaultMode":420}}],` +
			`"restartPolicy":"Always","serviceAccountName":"default","tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}]}}}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseRequest([]byte(body)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
