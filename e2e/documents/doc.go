// Package documents tests that the commands which documents show can be run, as they are written, from a fresh checkout, against a real
// API server. It runs with make e2e. Nodes are missing there: what pods would do, the tests do.
package documents
