package core

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bodySize is what the service reads of a body, bytes.
const bodySize = 4 << 20

// filled makes a body as large as may be of something again and again, up to a number of times.
func filled(most int, before, again, after string) string {
	return before + strings.Repeat(again, min(most, (bodySize-len(before)-len(after))/len(again))) + after
}

// worstBodies are known, or were made up, each as far as it goes within the bound on values, or over it.
func worstBodies(most int) map[string]string {
	const spec = `"spec":{"containers":[{"image":"a"}]}`
	in := func(values int, again string) string {
		return filled(most/values, `{"object":{"x":[`, again, `{}],`+spec+`}}`)
	}
	var keys strings.Builder
	for i := 0; i < most && keys.Len() < bodySize*3/4-200; i++ {
		fmt.Fprintf(&keys, `"%s":1,`, strconv.FormatInt(int64(i), 36))
	}
	encoded := func(values int, again string) string {
		inner := `{"x":[` + strings.Repeat(again, min(most/values, (bodySize*3/4-200)/len(again))) + `{}],` + spec + `}`
		return `{"encodedObject":"` + base64.StdEncoding.EncodeToString([]byte(inner)) + `"}`
	}
	deep := strings.Repeat("[", 90) + strings.Repeat("]", 90) + ","
	return map[string]string{
		"empty objects":             in(2, `{},`),
		"objects with a field":      in(2, `{"":1},`),
		"objects with a null":       in(2, `{"":null},`),
		"objects in objects":        in(3, `{"a":{}},`),
		"numbers":                   in(1, `1,`),
		"numbers of many digits":    in(1, strings.Repeat("1", 18)+`e10,`),
		"one number":                filled(bodySize, `{"object":{"x":[`, `1`, `],`+spec+`}}`),
		"empty lists":               in(2, `[],`),
		"lists in lists":            in(91, deep),
		"empty texts":               in(1, `"",`),
		"texts with escapes":        in(1, `"`+strings.Repeat(`\u00e9`, 3)+`",`),
		"one text with escapes":     filled(bodySize, `{"object":{"x":"`, `\u00e9`, `",`+spec+`}}`),
		"one text with line breaks": filled(bodySize, `{"object":{"x":"`, `\n`, `",`+spec+`}}`),
		"keys":                      `{"object":{"x":{` + keys.String() + `"":1},` + spec + `}}`,
		"keys of the object":        `{"object":{` + keys.String() + `"":1,` + spec + `}}`,
		"keys in metadata and null": `{"object":{` + spec + `},"metadata":{` + keys.String() + `"":null}}`,
		"keys, encoded":             `{"encodedObject":"` + base64.StdEncoding.EncodeToString([]byte(`{`+keys.String()+`"":1,`+spec+`}`)) + `"}`,
		"objects, encoded":          encoded(2, `{"":1},`),
		"empty patterns":            filled(most, `{"imageReferences":[`, `"",`, `""]}`),
		"attestations":              filled(most/2, `{"attestations":[`, `{},`, `{}]}`),
		"attestations, and a null":  filled(most/2, `{"attestations":[`, `{},`, `null]}`),
		"attestation types":         filled(most/2, `{"attestations":[{"type":[`, `{},`, `{}]}]}`),
		"conditions":                filled(most/2, `{"attestations":[{"imageReference":"*","type":[{"name":"a","conditions":{"any":[`, `{"key":1,"operator":"Equals"},`, `{"key":null,"operator":"Equals"}]}}]}]}`),
		"images":                    filled(most/2, `{"images":{"c":{`, `"":{},`, `"a":{}}}}`),
		"images in groups":          filled(most/2, `{"images":{`, `"c":{},`, `"a":{}}}`),
		"fields":                    filled(most, `{"a":1`, `,"a":1`, `}`),
		"keys and a text with escapes, and a null": filled(bodySize, `{"metadata":null,"object":{"x":{`+keys.String()+`"":1},`+spec+`,"y":"`, `\u00e9`, `"}}`),
		"blanks":                 filled(bodySize, `{`, ` `, `}`),
		"pod specs":              in(5, `{"containers":[{"image":"a"}]},`),
		"containers":             filled(most/4, `{"object":{"spec":{"containers":[`, `{"name":"c","image":"a"},`, `{"image":"a"}]}}}`),
		"containers, and a null": filled(most/4, `{"metadata":null,"object":{"spec":{"containers":[`, `{"name":"c","image":"a"},`, `{"image":"a"}]}}}`),
		"volumes":                filled(most/4, `{"object":{"spec":{"containers":[],"volumes":[`, `{"image":{"reference":"a"}},`, `{}]}}}`),
	}
}

func TestParseRequestReadsTheLargestWorkload(t *testing.T) {
	var variables, containers strings.Builder
	for i := range 20 {
		fmt.Fprintf(&variables, `,{"name":"VARIABLE_%d","value":"value %d"}`, i, i)
	}
	for i := range maxImages {
		fmt.Fprintf(&containers, `,{"name":"c%d","image":"ghcr.io/acme/app:v%d","env":[%s],"resources":{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"1","memory":"1Gi"}},`+
			`"ports":[{"containerPort":8080,"name":"http","protocol":"TCP"}],"volumeMounts":[{"name":"data","mountPath":"/data"},{"name":"tmp","mountPath":"/tmp"}]}`, i, i, variables.String()[1:])
	}
	body := `{"object":{"kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[` + containers.String()[1:] + `]}}}`
	request, err := ParseRequest([]byte(body))
	if err != nil || len(request.Images) != maxImages {
		t.Errorf("%d images of a body of %d bytes: %v", len(request.Images), len(body), err)
	}
}

// TestParseRequestBoundsItsMemory by the number of values in a body, since decoding each takes time and cannot be
// interrupted.
func TestParseRequestBoundsItsMemory(t *testing.T) {
	for sentence, body := range worstBodies(bodySize) {
		t.Run(sentence, func(t *testing.T) {
			var request Request
			allocated := testing.AllocsPerRun(1, func() { request, _ = ParseRequest([]byte(body)) })
			if allocated > 2*maxShape {
				t.Errorf("%.0f allocations for a body of %d bytes and %d images", allocated, len(body), len(request.Images))
			}
		})
	}
}

// processorTime is what this process has taken so far, of its collection of garbage too.
func processorTime(tb testing.TB) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano())
}

// BenchmarkWorstBodies prints the time, that of the processor and the memory of each.
func BenchmarkWorstBodies(b *testing.B) {
	for sentence, body := range worstBodies(maxShape - 100) {
		b.Run(sentence, func(b *testing.B) {
			b.ReportAllocs()
			before := processorTime(b)
			for b.Loop() {
				_, _ = ParseRequest([]byte(body))
			}
			b.ReportMetric(float64((processorTime(b)-before).Microseconds())/1000/float64(b.N), "processor-ms/op")
		})
	}
}
