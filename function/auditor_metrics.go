package function

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
	shellauditor "github.com/nirmata/kyverno-notation-venafi/shell/auditor"
)

// maxNamespaces bounds the namespaces that metrics name; the others are counted together as otherNamespaces, which is no valid name.
const (
	maxNamespaces   = 500
	otherNamespaces = "_others"
)

// counts are of what was done, over all terms of this process.
type counts struct {
	mu       sync.Mutex
	sum      shellauditor.Counts
	requests map[string]uint64
}

// end adds the counts of a term that is over, so that counters do not go back.
func (a *Auditor) end(t *term) {
	a.past.mu.Lock()
	defer a.past.mu.Unlock()
	a.past.sum = sumCounts(a.past.sum, t.shell.Stats().Counts)
	a.past.requests = sumMaps(a.past.requests, t.engine.registry.Stats().Requests)
	a.current.Store(nil)
}

func sumCounts(a, b shellauditor.Counts) shellauditor.Counts {
	return shellauditor.Counts{Verified: sumMaps(a.Verified, b.Verified), Reports: sumMaps(a.Reports, b.Reports), Events: sumMaps(a.Events, b.Events)}
}

func sumMaps[K comparable](a, b map[K]uint64) map[K]uint64 {
	sum := maps.Clone(b)
	if sum == nil {
		sum = map[K]uint64{}
	}
	for key, n := range a {
		sum[key] += n
	}
	return sum
}

// auditorCollector reads what the auditor knows at every scrape.
type auditorCollector struct {
	*Auditor
	changes prometheus.Histogram

	leading, images, oldest, sizes, verified, reports, events, requests *prometheus.Desc
}

// MetricsHandler answers with the metrics of the auditor and of the Go runtime.
func (a *Auditor) MetricsHandler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newAuditorCollector(a), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

func newAuditorCollector(a *Auditor) *auditorCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "audit", name), help, labels, nil)
	}
	return &auditorCollector{
		Auditor: a,
		changes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: "audit", Name: "trust_change_seconds",
			Help:    "Time from when a change of trust was seen to the last report that it changed.",
			Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800},
		}),
		leading:  desc("leading", "1 while this process audits."),
		images:   desc("images", "Images that run, as written and by digest, by namespace and result: pass, fail, skip, error, or pending before the first verdict.", "namespace", "result"),
		oldest:   desc("oldest_verdict_seconds", "Age of the oldest verdict."),
		sizes:    desc("objects", "What is kept: pods, workloads, images, and pods_left_out, of which images are not looked at for want of room.", "kind"),
		verified: desc("verifications_total", "Images verified, by why: a change of trust, new, a retry, or their age.", "cause"),
		reports:  desc("reports_total", "Writes of reports, by outcome.", "outcome"),
		events:   desc("events_total", "Events about changed verdicts, by outcome: recorded, failed, or dropped since a namespace had too many.", "outcome"),
		requests: desc("registry_requests_total", "Requests of the auditor to registries, by outcome.", "outcome"),
	}
}

// Describe is part of prometheus.Collector.
func (c *auditorCollector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{c.leading, c.images, c.oldest, c.sizes, c.verified, c.reports, c.events, c.requests} {
		to <- desc
	}
	c.changes.Describe(to)
}

// Collect is part of prometheus.Collector.
func (c *auditorCollector) Collect(to chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	var stats shellauditor.Stats
	c.past.mu.Lock()
	counts, requests := c.past.sum, c.past.requests
	t := c.current.Load()
	c.past.mu.Unlock()
	leading := 0.0
	if t != nil {
		leading, stats = 1, t.shell.Stats()
		counts, requests = sumCounts(counts, stats.Counts), sumMaps(requests, t.engine.registry.Stats().Requests)
	}
	gauge(c.leading, leading)
	for name, results := range boundedNamespaces(stats.Images) {
		for result, n := range results {
			gauge(c.images, float64(n), name, string(result))
		}
	}
	age := 0.0
	if !stats.Oldest.IsZero() {
		age = time.Since(stats.Oldest).Seconds()
	}
	gauge(c.oldest, age)
	for kind, n := range map[string]int{"pods": stats.Sizes.Pods, "workloads": stats.Sizes.Workloads, "images": stats.Sizes.Images, "pods_left_out": stats.Sizes.LeftOut} {
		gauge(c.sizes, float64(n), kind)
	}
	counter := func(desc *prometheus.Desc, n uint64, label string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), label)
	}
	for _, cause := range auditor.Causes() {
		counter(c.verified, counts.Verified[cause], string(cause))
	}
	for outcome, n := range counts.Reports {
		counter(c.reports, n, outcome)
	}
	for outcome, n := range counts.Events {
		counter(c.events, n, outcome)
	}
	for outcome, n := range requests {
		counter(c.requests, n, outcome)
	}
	for _, took := range stats.Changes {
		c.changes.Observe(took.Seconds())
	}
	c.changes.Collect(to)
}

// boundedNamespaces counts the namespaces over the bound together, so that whoever makes namespaces makes no metrics without end.
func boundedNamespaces(counts map[string]map[auditor.Result]int) map[string]map[auditor.Result]int {
	if len(counts) <= maxNamespaces {
		return counts
	}
	bounded, others := map[string]map[auditor.Result]int{}, map[auditor.Result]int{}
	for i, name := range slices.SortedFunc(maps.Keys(counts), strings.Compare) {
		if i < maxNamespaces {
			bounded[name] = counts[name]
			continue
		}
		for result, n := range counts[name] {
			others[result] += n
		}
	}
	bounded[otherNamespaces] = others
	return bounded
}
