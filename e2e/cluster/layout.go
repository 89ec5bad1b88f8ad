package cluster

import (
	"fmt"
	"path/filepath"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
)

// Addresses exist only inside the cluster's network namespace.
const (
	nodeName    = "node"
	nodeAddress = "10.99.0.1"
	nodeNetwork = nodeAddress + "/24"
	nodeBridge  = "node0" // carries the node's address: not every kernel has dummy links
	podNetwork  = "10.98.0.0/16"
	podBridge   = "pods0"
	services    = "10.96.0.0/16"
	apiService  = "10.96.0.1"
	dnsService  = "10.96.0.10"
	domain      = "cluster.local"

	etcdURL   = "http://127.0.0.1:2379"
	serverURL = "https://" + nodeAddress + ":6443"

	cgroupName = "kyverno-notation-venafi" // below the root of every hierarchy
)

// RegistryHost is what images call the registry in the cluster. Pods and the node itself resolve it.
const RegistryHost = "registry.images.svc." + domain

// layout names the files of a cluster: what is kept in the cache, and its own data, which Down removes.
type layout struct {
	cache string // directory of built programs, shared with package bed
	data  string // directory of the one cluster
}

func newLayout(cache string) (layout, error) {
	if cache == "" {
		found, err := bed.DefaultCacheDir()
		if err != nil {
			return layout{}, fmt.Errorf("cache directory: %w", err)
		}
		cache = found
	}
	return layout{cache: cache, data: filepath.Join(cache, "cluster")}, nil
}

func (l layout) stateFile() string { return filepath.Join(l.cache, "cluster.json") }

// lockFile is held by who starts or ends the cluster.
func (l layout) lockFile() string { return filepath.Join(l.cache, "cluster.lock") }

func (l layout) path(elements ...string) string {
	return filepath.Join(append([]string{l.data}, elements...)...)
}

func (l layout) kubeconfig(who string) string { return l.path("pki", who+".kubeconfig") }

// containerdSocket lies where only the cluster's mount namespace sees it; its path is short, as sockets want it.
const containerdSocket = "/run/containerd/containerd.sock"
