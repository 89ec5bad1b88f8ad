package function_test

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
)

// BenchmarkRecorded measures admissions of one cached image, each with its record, down to the sealed line in a file, beside
// admissions that are not recorded. processor-ns/op is the processor time of all goroutines, which what else runs does not change.
func BenchmarkRecorded(b *testing.B) {
	for name, configure := range map[string]func(*function.Settings){
		"none": nil,
		"each": func(s *function.Settings) {
			s.RecordKept, s.DecisionLog = 1, filepath.Join(b.TempDir(), "decisions.jsonl")
		},
	} {
		b.Run(name, func(b *testing.B) {
			service := start(b, registrytest.Options{}, "", configure)
			reference, _ := service.publish(b, "signed")
			body := pod(reference)
			handler := service.service.Handler()
			ask := func() {
				got := connection{httptest.NewRecorder()}
				handler.ServeHTTP(got, httptest.NewRequest(http.MethodPost, "/checkimages", strings.NewReader(body)))
				if got.Code != http.StatusOK {
					b.Fatalf("answer %d %s", got.Code, got.Body)
				}
			}
			ask()
			await := func() {}
			if configure != nil {
				await = service.service.AwaitRecords
			}
			await()
			b.ReportAllocs()
			began := processorTime(b)
			const atOnce = 64
			for i := 1; b.Loop(); i++ {
				ask()
				if i%atOnce == 0 {
					await()
				}
			}
			await()
			b.ReportMetric(float64(processorTime(b)-began)/float64(b.N), "processor-ns/op")
		})
	}
}
