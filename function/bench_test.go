package function_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/plugintest"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// BenchmarkCheck measures cold admissions, without a cache. Beside the time it reports, per
// admission, the registry requests and the plugin processes. distance is what each registry request takes longer; at
// none, a pod of many images is bound by the cores, which service, registry, plugins and caller share here.
func BenchmarkCheck(b *testing.B) {
	for _, distance := range []time.Duration{0, 5 * time.Millisecond} {
		for _, plugin := range []bool{false, true} {
			for _, images := range []int{1, 10} {
				b.Run(fmt.Sprintf("distance=%s/plugin=%t/images=%d", distance, plugin, images), func(b *testing.B) {
					benchmarkPod(b, images, plugin, distance)
				})
			}
		}
	}
}

func benchmarkPod(b *testing.B, images int, plugin bool, distance time.Duration) {
	service := start(b, registrytest.Options{}, "", cold)
	request := &signingtest.SignRequest{}
	if plugin {
		request.Plugin = signingtest.Venafi()
	}
	references := make([]string, images)
	for i := range references {
		name := fmt.Sprintf("bench-%d", i)
		if _, err := service.scenario.PushSigned(b.Context(), name, service.scenario.Signer(), request); err != nil {
			b.Fatal(err)
		}
		references[i] = service.scenario.Reference(name)
	}
	body := pod(references...)
	if answer := service.post(b, "/checkimages", body); answer.status != http.StatusOK {
		b.Fatalf("answer %d %s", answer.status, answer.text)
	}
	if distance > 0 {
		service.registry.SetFault(registrytest.Delay(distance))
	}
	before := service.processes(b)
	service.registry.Reset()
	b.ReportAllocs()
	for b.Loop() {
		if answer := service.post(b, "/checkimages", body); answer.status != http.StatusOK {
			b.Fatalf("answer %d %s", answer.status, answer.text)
		}
	}
	b.ReportMetric(float64(len(service.registry.Requests()))/float64(b.N), "requests/op")
	b.ReportMetric(float64(service.processes(b)-before)/float64(b.N), "processes/op")
}

// processes counts the plugin's processes so far.
func (b *bench) processes(t testing.TB) int {
	t.Helper()
	calls, err := plugintest.Calls(b.pluginDir, "venafi-csp")
	if err != nil {
		t.Fatal(err)
	}
	return len(strings.Split(strings.Join(calls, "\n"), "\n"))
}

// BenchmarkWarm measures admissions of one cached image, by 16 callers at once, beside a handler that decodes the
// same body and encodes the same answer.
func BenchmarkWarm(b *testing.B) {
	service := start(b, registrytest.Options{}, "", nil)
	reference, _ := service.publish(b, "signed")
	body := pod(reference)
	answer := service.post(b, "/checkimages", body)
	if answer.status != http.StatusOK {
		b.Fatalf("answer %d %s", answer.status, answer.text)
	}
	handlers := map[string]http.Handler{"service": service.service.Handler(), "bare": bare(b, answer.text)}
	for _, name := range []string{"service", "bare"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					got := connection{httptest.NewRecorder()}
					handlers[name].ServeHTTP(got, httptest.NewRequest(http.MethodPost, "/checkimages", strings.NewReader(body)))
					if got.Code != http.StatusOK {
						b.Errorf("answer %d %s", got.Code, got.Body)
					}
				}
			})
		})
	}
}

// connection is a recorder that takes deadlines, as a connection does, so that none has to be refused.
type connection struct{ *httptest.ResponseRecorder }

// SetReadDeadline does nothing.
func (connection) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (connection) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkKept measures what the service itself does for one cached image, without connections: with a log line for each request, as by
// default, and without, for the smallest body and for one as large as that of a usual pod. processor-ns/op is processor time, which what
// else runs on the machine changes little.
func BenchmarkKept(b *testing.B) {
	for _, logged := range []bool{false, true} {
		for _, extra := range []int{0, 4 << 10} {
			b.Run(fmt.Sprintf("logged=%t/extra=%d", logged, extra), func(b *testing.B) {
				service := prepare(b, registrytest.Options{}, "")
				if logged {
					service.log = slog.New(slog.NewJSONHandler(io.Discard, nil))
				}
				service.serve(b, nil)
				reference, _ := service.publish(b, "signed")
				body := podWith(reference, extra)
				if answer := service.post(b, "/checkimages", body); answer.status != http.StatusOK {
					b.Fatalf("answer %d %s", answer.status, answer.text)
				}
				benchmarkHandler(b, service.service.Handler(), body)
			})
		}
	}
}

// podWith is the request for a pod with one image, and about so many bytes of environment variables.
func podWith(reference string, extra int) string {
	const variable = `{"name":"VARIABLE","value":"some value"},`
	environment := strings.TrimSuffix(strings.Repeat(variable, extra/len(variable)), ",")
	return fmt.Sprintf(`{"object":{"kind":"Pod","spec":{"containers":[{"name":"c","image":%q,"env":[%s]}]}}}`, reference, environment)
}

func benchmarkHandler(b *testing.B, handler http.Handler, body string) {
	reader := strings.NewReader(body)
	request := httptest.NewRequest(http.MethodPost, "/checkimages", nil)
	request.Body, request.ContentLength = io.NopCloser(reader), int64(len(body))
	answer := &lastAnswer{header: http.Header{}}
	b.ReportAllocs()
	began := processorTime(b)
	for b.Loop() {
		clear(answer.header)
		reader.Reset(body)
		handler.ServeHTTP(answer, request)
		if answer.status != http.StatusOK {
			b.Fatalf("answer %d", answer.status)
		}
	}
	b.ReportMetric(float64(processorTime(b)-began)/float64(b.N), "processor-ns/op")
}

// lastAnswer takes answers as a connection does, and forgets all but the status of the last one.
type lastAnswer struct {
	header http.Header
	status int
}

// Header is part of http.ResponseWriter.
func (a *lastAnswer) Header() http.Header { return a.header }

// WriteHeader is part of http.ResponseWriter.
func (a *lastAnswer) WriteHeader(status int) { a.status = status }

// Write is part of http.ResponseWriter.
func (*lastAnswer) Write(part []byte) (int, error) { return len(part), nil }

// SetReadDeadline does nothing.
func (*lastAnswer) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (*lastAnswer) SetWriteDeadline(time.Time) error { return nil }

// bare decodes any request, and encodes always the same answer.
func bare(t testing.TB, answer string) http.Handler {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(answer), &value); err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request any
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(value)
	})
}
