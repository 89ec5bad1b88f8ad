package function

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nirmata/kyverno-notation-venafi/core"
)

// metrics are the service's own, beside those of the Go runtime. They have a registry of their own, since the
// libraries put theirs into the global one.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	images   *prometheus.CounterVec
}

const namespace = "kyverno_notation_venafi"

func newMetrics(trust TrustSource, connected func() bool) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "request_duration_seconds",
			Help:    "Time from a request to its answer, by path and status.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 8, 15},
		}, []string{"path", "status"}),
		images: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "images_total", Help: "Images judged, by reason code.",
		}, []string{"code"}),
	}
	m.registry.MustRegister(m.requests, m.images, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.gauge("trust_policies", "Trust policies that are loaded, broken ones included.", func() float64 {
		snapshot, _ := trust.Snapshot()
		return float64(len(snapshot.Policies))
	})
	m.gauge("trust_stores", "Trust stores that are loaded, broken ones included.", func() float64 {
		snapshot, _ := trust.Snapshot()
		return float64(len(snapshot.Stores))
	})
	if connected != nil {
		m.gauge("apiserver_connected", "1 while the API server can be watched; at 0 the last trust stays in force.", func() float64 {
			if connected() {
				return 1
			}
			return 0
		})
	}
	return m
}

func (m *metrics) gauge(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, value))
}

// observe counts one request.
func (m *metrics) observe(path string, status int, took time.Duration, verdict core.Verdict) {
	m.requests.WithLabelValues(path, strconv.Itoa(status)).Observe(took.Seconds())
	for _, result := range verdict.Results {
		m.images.WithLabelValues(string(result.Code)).Inc()
	}
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
