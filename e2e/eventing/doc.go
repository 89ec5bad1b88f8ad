// Package eventing shows the service behind a real Knative Eventing: its controllers, its webhooks, the adapter of an
// ApiServerSource, the broker and the in-memory channel deliver changes of trust from config/events, as shipped, to /events. Run
// it with make e2e-eventing.
//
// The test runs itself again in a network and a mount namespace of its own, from which no route leads out, and which are gone
// with its processes. In there it stands in for the parts of Kubernetes that a test environment (package bed) lacks:
//
//   - A pod is a process in a network namespace of its own, so that each finds the ports that its Deployment names. Its
//     environment and its account are those of the Deployment.
//   - A Service is a listener at its cluster address that forwards to the ports of a pod. Without endpoints it refuses
//     connections. The names of Services are in /etc/hosts.
//   - The conditions of Deployments, the EndpointSlices and the rules of aggregated cluster roles are written by the test.
package eventing
