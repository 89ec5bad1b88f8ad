// Package cluster runs a real Kubernetes node with pods, Knative Serving behind Traefik and Kyverno on one machine,
// for tests of what only shows in pods:
//
//	c, err := cluster.Up(ctx, cluster.Options{Log: os.Stderr})
//	...
//	out, err := c.Kubectl(ctx, "", "get", "pods", "--all-namespaces")
//	err = cluster.Down(ctx, cluster.Options{})
//
// It needs Linux and root, and Debian's containerd, runc, CNI plugins and nftables. All else is built from Go modules
// that the folders below e2e/tools pin, once, into the user's cache; images are made of these programs alone.
//
// # Where it runs
//
// Everything runs in network, mount, process, host name and IPC namespaces of its own, under a first process (Supervise)
// that keeps the parts of the node running. The network has one bridge with the node's address, one with the pods', and
// no route out. When the first process ends, be it by a crash, the kernel ends all others and takes mounts, links and
// addresses with them. What is left then is a folder, cgroups and a few sysctls of the whole machine; a file in the
// cache knows of them, for Down and for the next Up.
//
// # What is missing
//
// The network plugin is the plain bridge: a NetworkPolicy is stored and not enforced. Nothing evicts, and no image is
// ever pulled.
package cluster
