// Package kube takes from a Kubernetes API server what the service needs of it: trust resources, registry
// credentials, plugin configuration, and who a caller is. What it watches it keeps, so that verification goes on
// while the API server is away.
package kube

import (
	"fmt"
	"net"
	"net/http"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/dynamic"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Bounds on what is asked of the API server. Token reviews, the only requests whose number depends on callers, have their
// own; see Reviewer.
const (
	requestsPerSecond = 50
	requestsBurst     = 100
	dialTimeout       = 5 * time.Second  // client-go's own is 30 s, too long to be back soon
	requestTimeout    = 10 * time.Second // of a request that is no watch
)

// Client talks to one API server. Close it in the end.
type Client struct {
	Namespace string // of the service's pod, else of the kubeconfig's context, else "default"

	dynamic dynamic.Interface
	reviews dynamic.Interface // without bounds of its own: a Reviewer has some, which hold up nothing else
	leases  coordination.CoordinationV1Interface
	http    *http.Client
}

// Connect makes a client from a kubeconfig file, or from the pod's service account where kubeconfig is "". It
// asks nothing of the API server yet.
func Connect(kubeconfig, userAgent string) (*Client, error) {
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}, &clientcmd.ConfigOverrides{})
	config, err := loader.ClientConfig()
	if kubeconfig == "" {
		config, err = rest.InClusterConfig()
	}
	if err != nil {
		return nil, fmt.Errorf("configuration of the Kubernetes client: %w", err)
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, fmt.Errorf("namespace in the configuration of the Kubernetes client: %w", err)
	}
	config.UserAgent = userAgent
	config.QPS, config.Burst = requestsPerSecond, requestsBurst
	config.Dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	return newClient(config, namespace)
}

func newClient(config *rest.Config, namespace string) (*Client, error) {
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("client of the API server: %w", err)
	}
	resources, err := dynamic.NewForConfigAndClient(config, transport)
	if err != nil {
		return nil, fmt.Errorf("client of the API server: %w", err)
	}
	unbounded := rest.CopyConfig(config)
	unbounded.QPS = -1
	reviews, err := dynamic.NewForConfigAndClient(unbounded, transport)
	if err != nil {
		return nil, fmt.Errorf("client of the API server: %w", err)
	}
	leases, err := coordination.NewForConfigAndClient(config, transport)
	if err != nil {
		return nil, fmt.Errorf("client of the API server: %w", err)
	}
	return &Client{Namespace: namespace, dynamic: resources, reviews: reviews, leases: leases, http: transport}, nil
}

// Close ends idle connections. Watches end with their contexts.
func (c *Client) Close() { utilnet.CloseIdleConnectionsFor(c.http.Transport) }
