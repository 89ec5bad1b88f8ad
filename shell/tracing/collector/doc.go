// Package collector is empty: its tests have a real OpenTelemetry collector receive the spans of the service. It is a module of
// its own, which keeps the collector out of the service's.
package collector
