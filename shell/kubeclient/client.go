// Package kubeclient is what every part of the service that talks to a Kubernetes API server needs: a client with bounds
// on what it asks, watches whose results are kept as decoded values, and the health of those watches.
//
// A watch is made of a [Target], a [Store] that keeps what was decoded, and a [Health] that is shared by the watches of one
// part of the service. An [Object] is a watch of one Secret or ConfigMap by its name. [TrustResources] watches the
// TrustPolicy and TrustStore resources. What was stored stays while the API server is away.
package kubeclient

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/dynamic"
	authentication "k8s.io/client-go/kubernetes/typed/authentication/v1"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	events "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/flowcontrol"
)

// Bounds on what is asked of the API server. Leases have bounds of their own, so that a leader's renewal does not wait behind
// other requests. Token reviews are bounded by those who ask for them, since callers decide on their number.
const (
	requestsPerSecond = 50
	requestsBurst     = 100
	dialTimeout       = 5 * time.Second // client-go's own is 30 s: too long to notice soon that the API server is back
)

// RequestTimeout bounds a request that is no watch.
const RequestTimeout = 10 * time.Second

// FieldManager is the name under which the API server records what the service wrote.
const FieldManager = "kyverno-notation-venafi"

// Client talks to one API server. Close it in the end.
type Client struct {
	Namespace string // of the service's pod, else of the kubeconfig's context, else "default"

	Dynamic  dynamic.Interface  // for the trust resources
	Metadata metadata.Interface // for objects of which only the metadata are read
	Core     core.CoreV1Interface
	Events   events.EventsV1Interface
	Leases   coordination.CoordinationV1Interface
	Reviews  authentication.TokenReviewInterface // without a rate limit: its user has one

	http *http.Client
}

// Source says which cluster a client is for. The zero value is the cluster of the pod that the program runs in.
type Source struct {
	Kubeconfig string // file, or several as kubectl takes them from $KUBECONFIG; "" for the pod's service account
	Context    string // of the kubeconfig; "" for its current one
}

// rules say where the kubeconfig is.
func (s Source) rules() *clientcmd.ClientConfigLoadingRules {
	if list := filepath.SplitList(s.Kubeconfig); len(list) > 1 {
		return &clientcmd.ClientConfigLoadingRules{Precedence: list}
	}
	return &clientcmd.ClientConfigLoadingRules{ExplicitPath: s.Kubeconfig}
}

// Connect makes a client. It sends no request yet.
func Connect(source Source, userAgent string) (*Client, error) {
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(source.rules(), &clientcmd.ConfigOverrides{CurrentContext: source.Context})
	config, err := loader.ClientConfig()
	if source.Kubeconfig == "" {
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
	return New(config, namespace)
}

// New makes a client from a configuration, whose QPS and Burst bound all requests but token reviews.
func New(config *rest.Config, namespace string) (*Client, error) {
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("client of the API server: %w", err)
	}
	shared, unlimited := rest.CopyConfig(config), rest.CopyConfig(config)
	shared.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(config.QPS, config.Burst)
	unlimited.QPS = -1
	c := &Client{Namespace: namespace, http: transport}
	var errs [6]error
	c.Dynamic, errs[0] = dynamic.NewForConfigAndClient(shared, transport)
	c.Core, errs[1] = core.NewForConfigAndClient(shared, transport)
	c.Events, errs[2] = events.NewForConfigAndClient(shared, transport)
	c.Leases, errs[3] = coordination.NewForConfigAndClient(config, transport)
	reviews, err := authentication.NewForConfigAndClient(unlimited, transport)
	errs[4] = err
	c.Metadata, errs[5] = metadata.NewForConfigAndClient(shared, transport)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("client of the API server: %w", err)
	}
	c.Reviews = reviews.TokenReviews()
	return c, nil
}

// Close ends idle connections. Watches end with their contexts.
func (c *Client) Close() { utilnet.CloseIdleConnectionsFor(c.http.Transport) }
