// Package validate is empty: its tests hold the alerts and the dashboard against a real Prometheus and a running service. It is a
// module of its own, which keeps Prometheus out of the service's.
package validate
