package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// part is one process of the node, started again whenever it ends.
type part struct {
	Name string
	Args []string // the program first
}

// programs are the paths of what runs on the node itself. What runs in pods are images.
type programs struct {
	Etcd, APIServer, ControllerManager, Scheduler, Kubelet, Proxy string
	Kubectl                                                       string
}

// parts are in the order in which they are started; each waits by itself for those that it needs.
func (l layout) parts(p programs) []part {
	return []part{
		{"etcd", []string{p.Etcd, "--data-dir=" + l.path("etcd"), "--listen-client-urls=" + etcdURL,
			"--advertise-client-urls=" + etcdURL, "--unsafe-no-fsync", "--log-level=warn"}},
		{"kube-apiserver", l.apiServer(p)},
		{"containerd", []string{"containerd", "--config=" + l.path("containerd.toml")}},
		{"kube-controller-manager", []string{p.ControllerManager,
			"--kubeconfig=" + l.kubeconfig("controller-manager"), "--bind-address=127.0.0.1", "--leader-elect=false",
			"--use-service-account-credentials", "--root-ca-file=" + l.path("pki", "ca.crt"),
			"--service-account-private-key-file=" + l.path("pki", "service-account.key"),
			"--cluster-signing-cert-file=" + l.path("pki", "ca.crt"), "--cluster-signing-key-file=" + l.path("pki", "ca.key")}},
		{"kube-scheduler", []string{p.Scheduler,
			"--kubeconfig=" + l.kubeconfig("scheduler"), "--bind-address=127.0.0.1", "--leader-elect=false"}},
		{"kubelet", []string{p.Kubelet, "--config=" + l.path("kubelet.json"), "--kubeconfig=" + l.kubeconfig("kubelet"),
			"--root-dir=" + l.path("kubelet"), "--cert-dir=" + l.path("kubelet", "pki"),
			"--hostname-override=" + nodeName, "--node-ip=" + nodeAddress}},
		{"kube-proxy", []string{p.Proxy, "--config=" + l.path("kube-proxy.json"), "--hostname-override=" + nodeName}},
	}
}

func (l layout) apiServer(p programs) []string {
	return []string{p.APIServer,
		"--etcd-servers=" + etcdURL,
		"--bind-address=" + nodeAddress, "--advertise-address=" + nodeAddress, "--secure-port=6443",
		"--tls-cert-file=" + l.path("pki", "apiserver.crt"), "--tls-private-key-file=" + l.path("pki", "apiserver.key"),
		"--cert-dir=" + l.path("pki"), "--client-ca-file=" + l.path("pki", "ca.crt"),
		"--kubelet-client-certificate=" + l.path("pki", "kubelet-client.crt"),
		"--kubelet-client-key=" + l.path("pki", "kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--service-account-issuer=https://kubernetes.default.svc." + domain,
		"--service-account-key-file=" + l.path("pki", "service-account.key"),
		"--service-account-signing-key-file=" + l.path("pki", "service-account.key"),
		"--service-cluster-ip-range=" + services, "--allow-privileged=true",
	}
}

// containerdConfig keeps every path of containerd inside the cluster's data or its mount namespace. AppArmor and
// negative OOM scores are not to be had on every machine, and no test is about them.
const containerdConfig = `version = 2
root = %q
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = %q
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
`

// registryHosts has containerd trust the registry's own authority; it overlooks one that is named outside of a host.
const registryHosts = `server = %[1]q
[host.%[1]q]
  capabilities = ["pull", "resolve"]
  ca = %[2]q
`

// nodeResolver takes the place of /etc/resolv.conf for the parts.
const nodeResolver = "node-resolv.conf"

// writeConfigs writes what the parts read. It is safe to repeat.
func (l layout) writeConfigs() error {
	type object = map[string]any
	toml := fmt.Sprintf(containerdConfig, l.path("containerd"), containerdSocket, imageName("pause"), cniPlugins, l.path("cni"), l.path("registries"))
	files := []struct {
		name    string
		content any
	}{
		{"containerd.toml", toml},
		{"resolv.conf", ""}, // of pods that do not ask CoreDNS; nothing outside answers
		{nodeResolver, "nameserver " + dnsService + "\noptions ndots:1\n"}, // of the node, which pulls from the cluster's registry
		{"registries/" + RegistryHost + "/hosts.toml", fmt.Sprintf(registryHosts, "https://"+RegistryHost, l.path("pki", "registry-ca.crt"))},
		{"cni/10-pods.conflist", object{
			"cniVersion": "1.0.0", "name": "pods",
			"plugins": []object{{
				"type": "bridge", "bridge": podBridge, "isGateway": true, "hairpinMode": true, "ipMasq": false,
				"ipam": object{
					"type": "host-local", "dataDir": "/run/cni-addresses",
					"ranges": [][]object{{{"subnet": podNetwork}}}, "routes": []object{{"dst": "0.0.0.0/0"}},
				},
			}},
		}},
		{"kubelet.json", l.kubeletConfig()},
		{"kube-proxy.json", object{
			"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
			"clientConnection": object{"kubeconfig": l.kubeconfig("kube-proxy")},
			"mode":             "nftables", "clusterCIDR": podNetwork,
			"healthzBindAddress": "127.0.0.1:10256", "metricsBindAddress": "127.0.0.1:10249",
			// The table of connections is the whole machine's: leave its size and times alone.
			"conntrack": object{"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
		}},
	}
	for _, file := range files {
		if err := writeConfig(l.path(file.name), file.content); err != nil {
			return err
		}
	}
	return nil
}

// kubeletConfig never removes an image, as none can be had again, and evicts no pod as long as the machine works.
func (l layout) kubeletConfig() map[string]any {
	type object = map[string]any
	const least = "1%"
	return object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"address":        nodeAddress,
		"authentication": object{"anonymous": object{"enabled": false}, "webhook": object{"enabled": true}, "x509": object{"clientCAFile": l.path("pki", "ca.crt")}},
		"authorization":  object{"mode": "Webhook"},
		"cgroupDriver":   "cgroupfs", "cgroupRoot": "/" + cgroupName, "failCgroupV1": false, "failSwapOn": false,
		"clusterDNS": []string{dnsService}, "clusterDomain": domain, "resolvConf": l.path("resolv.conf"),
		"containerRuntimeEndpoint":    "unix://" + containerdSocket,
		"evictionHard":                object{"memory.available": least, "nodefs.available": least, "imagefs.available": least, "nodefs.inodesFree": least},
		"imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
		"makeIPTablesUtilChains": false,
		"podLogsDir":             l.path("logs", "pods"), "volumePluginDir": l.path("volume-plugins"),
	}
}

func writeConfig(path string, content any) error {
	data, isText := content.(string)
	if !isText {
		encoded, err := json.MarshalIndent(content, "", "  ")
		if err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		data = string(encoded)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.WriteFile(path, []byte(data), 0o600)
}
