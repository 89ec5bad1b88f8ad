package function

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
)

// metrics are the service's own, beside those of the Go runtime. They have a registry of their own, since the
// libraries put theirs into the global one.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	images   *prometheus.CounterVec
}

const namespace = "kyverno_notation_venafi"

func newMetrics(trust TrustSource, connected func() bool, outcomes *cache.Cache, certificate *serving) *metrics {
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
	m.registry.MustRegister(m.requests, m.images, &cacheCollector{outcomes}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.gauge("trust_policies", "Trust policies that are loaded, broken ones included.", func() float64 {
		snapshot, _ := trust.Snapshot()
		return float64(len(snapshot.Policies))
	})
	m.gauge("trust_stores", "Trust stores that are loaded, broken ones included.", func() float64 {
		snapshot, _ := trust.Snapshot()
		return float64(len(snapshot.Stores))
	})
	if certificate != nil {
		m.gauge("serving_certificate_not_after_seconds", "When the serving certificate ends, in seconds since 1970; 0 while there is none.", certificate.notAfter)
	}
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

// cacheCollector reads the cache's counts when they are asked for.
type cacheCollector struct{ outcomes *cache.Cache }

func cacheDescriptions() (lookups, size, evicted *prometheus.Desc) {
	name := func(last string) string { return prometheus.BuildFQName(namespace, "cache", last) }
	return prometheus.NewDesc(name("lookups_total"), "Outcomes that were asked for: found (hit), worked out (miss), or being worked out already (shared).", []string{"kind", "result"}, nil),
		prometheus.NewDesc(name("entries"), "Outcomes that are kept.", nil, nil),
		prometheus.NewDesc(name("evictions_total"), "Outcomes that are kept no more, for want of room or because their time was over.", nil, nil)
}

// Describe is part of prometheus.Collector.
func (c *cacheCollector) Describe(to chan<- *prometheus.Desc) {
	lookups, size, evicted := cacheDescriptions()
	to <- lookups
	to <- size
	to <- evicted
}

// Collect is part of prometheus.Collector.
func (c *cacheCollector) Collect(to chan<- prometheus.Metric) {
	lookups, size, evicted := cacheDescriptions()
	stats := c.outcomes.Stats()
	for result, counts := range map[string]map[cache.Kind]int64{"hit": stats.Hits, "miss": stats.Misses, "shared": stats.Shared} {
		for kind, n := range counts {
			to <- prometheus.MustNewConstMetric(lookups, prometheus.CounterValue, float64(n), kind.String(), result)
		}
	}
	to <- prometheus.MustNewConstMetric(size, prometheus.GaugeValue, float64(stats.Size))
	to <- prometheus.MustNewConstMetric(evicted, prometheus.CounterValue, float64(stats.Evicted))
}
