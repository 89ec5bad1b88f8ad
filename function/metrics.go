package function

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
	"github.com/nirmata/kyverno-notation-venafi/shell/kube"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
	"github.com/nirmata/kyverno-notation-venafi/shell/records"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry"
	"github.com/nirmata/kyverno-notation-venafi/shell/sealer"
	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/shell/tracing"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify"
)

// metrics are the metrics of the service and of the Go runtime. They have a Prometheus registry of their own, since
// libraries register theirs in the global one.
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
			Help:    "Time from a request to its answer, by path, status, and whether it was for an admission or of a background scan.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 8, 15},
		}, []string{"path", "status", "for"}),
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
		m.gauge("apiserver_connected", "1 while all that is taken from the API server is watched; at 0 what was known last stays in force.", func() float64 { return oneIf(connected()) })
	}
	return m
}

func oneIf(condition bool) float64 {
	if condition {
		return 1
	}
	return 0
}

func (m *metrics) gauge(name, help string, value func() float64) { m.gaugeOf(name, help, nil, value) }

func (m *metrics) gaugeOf(name, help string, labels prometheus.Labels, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help, ConstLabels: labels}, value))
}

// watch exports the statistics of the gatherer, the registry client, the plugins and the limiter.
func (m *metrics) watch(gatherer *verify.Gatherer, client *registry.Client, plugins *plugin.Manager, limiter *limiter, tracer *tracing.Tracer) {
	for outcome, count := range map[string]func(tracing.Stats) uint64{
		"exported": func(s tracing.Stats) uint64 { return s.Exported },
		"dropped":  func(s tracing.Stats) uint64 { return s.Dropped },
		"failed":   func(s tracing.Stats) uint64 { return s.Failed },
	} {
		m.counter("trace_spans_total", "Spans of traces: those that the collector took, those that found no room, and those that the collector did not take.",
			prometheus.Labels{"outcome": outcome}, func() uint64 { return count(tracer.Stats()) })
	}
	m.counter("traces_limited_total", "Requests that were to be traced and were not, since there were too many in that second.", nil, func() uint64 { return tracer.Stats().Limited })
	m.gauge("background_requests", "Requests of background scans that are answered.", func() float64 { return float64(limiter.background.InUse()) })
	m.gauge("background_requests_waiting", "Those that wait since --maxBackground of them are answered.", func() float64 { return float64(limiter.background.Waiting()) })
	m.gauge("verifications", "Images and attestation types that are verified.", func() float64 { return float64(gatherer.Turns().InUse) })
	m.gauge("verifications_waiting", "Those that wait since --maxVerifications of them are under way.", func() float64 { return float64(gatherer.Turns().Queued) })
	m.counter("verifications_refused_total", "Those that were refused since --maxQueued of them wait.", nil, func() uint64 { return uint64(gatherer.Turns().Refused) })
	m.gauge("registry_hosts", "Registries of which connections may be kept.", func() float64 { return float64(client.Stats().Hosts) })
	m.gauge("registry_reads", "Reads from registries that are under way.", func() float64 { return float64(client.Stats().Reading) })
	m.gauge("registry_reads_waiting", "Reads that wait since their registry has --maxRegistryRequests of them.", func() float64 { return float64(client.Stats().Waiting) })
	m.counter("registry_retries_total", "Requests that were sent to registries again.", nil, func() uint64 { return client.Stats().Retries })
	m.counter("registry_mirrored_total", "Reads that a mirror answered in place of the registry.", nil, func() uint64 { return client.Stats().Mirrored })
	m.gauge("registry_paused", "Registries that want no requests now, since they refused some or said that nothing is left of their rate limit.", func() float64 { return float64(client.Stats().Paused) })
	m.registry.MustRegister(&limitsCollector{client})
	for outcome := range client.Stats().Requests {
		m.counter("registry_requests_total", "Requests to registries, by outcome.", prometheus.Labels{"outcome": outcome},
			func() uint64 { return client.Stats().Requests[outcome] })
	}
	m.gauge("plugin_processes", "Plugin processes that run.", func() float64 { return float64(plugins.Stats().Running) })
	m.gauge("plugin_processes_queued", "Calls of plugins that wait since --maxPluginProcesses of them run.", func() float64 { return float64(plugins.Stats().Queued) })
	m.gauge("plugin_circuits_open", "Plugins, by the CA of the signatures, that keep failing and are left alone for now.", func() float64 { return float64(plugins.Stats().OpenCircuits) })
	const calls, help = "plugin_calls_total", "Calls of plugins: the processes that were started, of these those that refused and those that failed, and the calls that a plugin left alone was spared."
	for event, count := range map[string]func(plugin.Stats) uint64{
		"started":    func(s plugin.Stats) uint64 { return s.Started },
		"refused":    func(s plugin.Stats) uint64 { return s.Refused },
		"failed":     func(s plugin.Stats) uint64 { return s.Failed },
		"left_alone": func(s plugin.Stats) uint64 { return s.LeftAlone },
	} {
		m.counter(calls, help, prometheus.Labels{"event": event}, func() uint64 { return count(plugins.Stats()) })
	}
}

// limitsCollector reads at every scrape what registries say is left of their rate limits, of those that the settings name, and of Docker
// Hub: whoever names an image chooses the others.
type limitsCollector struct{ client *registry.Client }

var limitsDescription = prometheus.NewDesc(prometheus.BuildFQName(namespace, "registry", "limit_remaining"),
	"Requests that a registry says it still takes, of docker.io and the registries that the settings name.", []string{"registry"}, nil)

// Describe is part of prometheus.Collector.
func (*limitsCollector) Describe(to chan<- *prometheus.Desc) { to <- limitsDescription }

// Collect is part of prometheus.Collector.
func (c *limitsCollector) Collect(to chan<- prometheus.Metric) {
	for _, limit := range c.client.Stats().Limits {
		to <- prometheus.MustNewConstMetric(limitsDescription, prometheus.GaugeValue, float64(limit.Remaining), limit.Registry)
	}
}

// watchShared exports what becomes of outcomes that replicas share.
func (m *metrics) watchShared(s *shared) {
	if s == nil {
		return
	}
	m.gauge("shared_cache_answers", "1 while the shared cache is asked; 0 while it is left alone, since it kept failing.", func() float64 { return oneIf(s.Answers()) })
	for _, result := range sharedcache.Results() {
		m.counter("shared_cache_total", "Looks into the shared cache and writes to it, by what became of them. Of looks: hit, awaited from another replica, missed, vain where another replica was waited for, failed, left_alone, spent where the verification had waited long enough, unkeyed. Of values: false where no replica wrote them for their place, over. Of writes: written, refused, dropped, unfit.",
			prometheus.Labels{"result": result.String()}, func() uint64 { return s.Count(result) })
	}
}

// watchDenials exports what becomes of denials as Events.
func (m *metrics) watchDenials(denials *kube.Denials) {
	for outcome, count := range map[string]func(kube.DenialStats) uint64{
		"recorded": func(s kube.DenialStats) uint64 { return s.Recorded },
		"repeated": func(s kube.DenialStats) uint64 { return s.Repeated },
		"dropped":  func(s kube.DenialStats) uint64 { return s.Dropped },
		"failed":   func(s kube.DenialStats) uint64 { return s.Failed },
	} {
		m.counter("denial_events_total", "Denials that were to become Events: those that did, repetitions of those, those of which nobody was told since there were too many, and what the API server did not take.",
			prometheus.Labels{"outcome": outcome}, func() uint64 { return count(denials.Stats()) })
	}
}

// watchEvents exports what becomes of CloudEvents.
func (m *metrics) watchEvents(events *events) {
	for outcome, counted := range events.counted {
		m.counter("trust_events_total", "CloudEvents on changes of trust, by what became of them: taken, duplicate, ignored since they are not about trust, refused since the sender may not send them, malformed, and failed, which the sender should send again.",
			prometheus.Labels{"outcome": outcome}, counted.Load)
	}
}

func (m *metrics) counter(name, help string, labels prometheus.Labels, value func() uint64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help, ConstLabels: labels},
		func() float64 { return float64(value()) }))
}

// watchRecords exports the statistics of the records of decisions; a nil recorder has none.
func (m *metrics) watchRecords(recorder *records.Recorder) {
	if recorder == nil {
		return
	}
	const name, help = "decision_records_total", "Decisions that were recorded; of these, those that are over the bound on a record and so not whole (cut); those dropped since too many waited; and those that failed."
	for outcome, count := range map[string]func(records.Stats) uint64{
		"recorded": func(s records.Stats) uint64 { return s.Recorded },
		"cut":      func(s records.Stats) uint64 { return s.Cut },
		"dropped":  func(s records.Stats) uint64 { return s.Dropped },
		"failed":   func(s records.Stats) uint64 { return s.Failed },
	} {
		m.counter(name, help, prometheus.Labels{"outcome": outcome}, func() uint64 { return count(recorder.Stats()) })
	}
	m.gauge("decision_records_waiting", "Decisions that are not recorded yet.", func() float64 { return float64(recorder.Stats().Waiting) })
	m.gauge("decision_records_in_memory", "Records that GET /decisions can show.", func() float64 { return float64(recorder.Stats().Kept) })
	for sink := range recorder.Stats().Sinks {
		m.watchChain(sink, func() sealer.Stats { return recorder.Stats().Sinks[sink].Chain })
		for outcome, count := range map[string]func(records.SinkStats) uint64{
			"written": func(s records.SinkStats) uint64 { return s.Written },
			"dropped": func(s records.SinkStats) uint64 { return s.Dropped },
			"failed":  func(s records.SinkStats) uint64 { return s.Failed },
		} {
			m.counter("decision_sink_records_total", "Records by sink, log or events: written, dropped since too many waited, and failed since the sink did not take them.",
				prometheus.Labels{"sink": sink, "outcome": outcome}, func() uint64 { return count(recorder.Stats().Sinks[sink]) })
		}
	}
}

// watchChain exports the statistics of the chain of a sink.
func (m *metrics) watchChain(sink string, stats func() sealer.Stats) {
	of := prometheus.Labels{"sink": sink}
	m.counter("decision_chain_lines_total", "Lines of chains of decision records, by sink, log or events.", of, func() uint64 { return stats().Lines })
	m.counter("decision_chain_checkpoints_total", "Of those, the checkpoints, which sign all lines before them.", of, func() uint64 { return stats().Checkpoints })
	m.counter("decision_chains_total", "Chains that were begun: one, and one more for each failure of the sink.", of, func() uint64 { return stats().Chains })
	m.gaugeOf("decision_chain_unsigned_lines", "Lines of the present chain that nothing signs yet.", of, func() float64 { return float64(stats().Unsigned) })
	m.gaugeOf("decision_chain_signing", "1 if the last checkpoint that was due could be signed.", of, func() float64 { return oneIf(stats().Signing) })
}

// observe counts one request and its images. A request that is traced is an example of how long such take.
func (m *metrics) observe(path string, call *call, status int, took time.Duration, verdict core.Verdict) {
	purpose := "admission"
	if call.background {
		purpose = "background"
	}
	of := m.requests.WithLabelValues(path, strconv.Itoa(status), purpose)
	if trace := call.span.TraceID(); trace != "" {
		of.(prometheus.ExemplarObserver).ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": trace, "decision_id": call.id})
	} else {
		of.Observe(took.Seconds())
	}
	for _, result := range verdict.Results {
		m.images.WithLabelValues(string(result.Code)).Inc()
	}
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// cacheCollector reads the cache's statistics at every scrape.
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
	for result, counts := range map[string]map[verification.Kind]int64{"hit": stats.Hits, "miss": stats.Misses, "shared": stats.Shared} {
		for kind, n := range counts {
			to <- prometheus.MustNewConstMetric(lookups, prometheus.CounterValue, float64(n), kind.String(), result)
		}
	}
	to <- prometheus.MustNewConstMetric(size, prometheus.GaugeValue, float64(stats.Size))
	to <- prometheus.MustNewConstMetric(evicted, prometheus.CounterValue, float64(stats.Evicted))
}
