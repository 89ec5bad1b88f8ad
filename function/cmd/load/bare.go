package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// serveBare serves a handler that does the least that any service must do: it decodes the request, and encodes an answer
// that it read from a file. The argument is "address=file".
func serveBare(argument string) error {
	address, file, _ := strings.Cut(argument, "=")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var answer any
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewCounter(prometheus.CounterOpts{Name: "kyverno_notation_venafi_plugin_calls_total", ConstLabels: prometheus.Labels{"event": "started"}}),
		prometheus.NewGauge(prometheus.GaugeOpts{Name: "kyverno_notation_venafi_cache_entries"}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("POST /checkimages", func(w http.ResponseWriter, r *http.Request) {
		var request any
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer) // an error means that the caller closed the connection
	})
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return server.ListenAndServe()
}
