// Package inventory reads from an API server what runs in a cluster, and the trust in force, once.
//
// Pods, ReplicaSets and Jobs are listed in pages, of the last two only their metadata and only where pods belong to some. Of a
// page only what differs between containers is kept, so memory grows with the number of distinct images of workloads, and not
// with the number of pods.
package inventory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// Options choose what is read.
type Options struct {
	Namespaces []string // only these; empty for all
	Except     []string // not these
}

// Bounds on a list.
const (
	pageSize    = 500              // objects
	pageTimeout = 30 * time.Second // for one page, of which pods make several megabytes
)

// running leaves out pods that have ended: nothing restarts them.
const running = "status.phase!=Succeeded,status.phase!=Failed"

// Uses lists the images of the pods that run, or are about to, by their topmost owners. It fails where a namespace that is named
// has none: an API server gives an empty list for a namespace that does not exist.
func Uses(ctx context.Context, client *kubeclient.Client, options Options) ([]audit.Use, error) {
	namespaces := options.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	var uses []audit.Use
	for _, namespace := range namespaces {
		found, err := usesIn(ctx, client, namespace, options.Except)
		if err != nil {
			return nil, err
		}
		if namespace != metav1.NamespaceAll && len(found) == 0 {
			return nil, fmt.Errorf("no workload was found in namespace %q, of those that are named", namespace)
		}
		uses = append(uses, found...)
	}
	return audit.Merged(uses), nil
}

// owned is a use of a workload that may itself belong to another.
type owned struct {
	audit.Use
	owner types.UID // of the workload; "" for a pod that belongs to none
}

func usesIn(ctx context.Context, client *kubeclient.Client, namespace string, except []string) ([]audit.Use, error) {
	counts := map[owned]int{}
	owners := map[string]map[types.UID]bool{} // of pods, by kind
	list := func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		options.FieldSelector = running
		return client.Core.Pods(namespace).List(ctx, options)
	}
	err := each(ctx, "pods", list, func(object runtime.Object) error {
		pod, ok := object.(*core.Pod)
		if !ok {
			return fmt.Errorf("the API server gave a %T", object)
		}
		if slices.Contains(except, pod.Namespace) {
			return nil
		}
		workload, kind, owner := ownerOf(pod)
		if kind != "" {
			if owners[kind] == nil {
				owners[kind] = map[types.UID]bool{}
			}
			owners[kind][owner] = true
		}
		for _, use := range usesOf(pod, workload) {
			counts[owned{use, owner}]++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	top := map[types.UID]audit.Workload{}
	for _, kind := range slices.Sorted(maps.Keys(owners)) {
		if err := resolve(ctx, client, kind, namespace, owners[kind], top); err != nil {
			return nil, err
		}
	}
	var uses []audit.Use
	for of, n := range counts {
		if workload, ok := top[of.owner]; ok && workload.Namespace == of.Namespace { // whoever makes a pod writes any identifier
			of.Workload = workload
		}
		of.Pods = n
		uses = append(uses, of.Use)
	}
	return uses, nil
}

// The kinds of owners that are made by others.
const (
	replicaSets = "replicasets"
	jobs        = "jobs"
)

// ownerOf gives the workload that a pod belongs to, else the pod itself. kind is the resource of an owner that may have an
// owner itself; "" for others.
func ownerOf(pod *core.Pod) (workload audit.Workload, kind string, owner types.UID) {
	controller := metav1.GetControllerOfNoCopy(pod)
	if controller == nil || controller.Kind == "Node" { // a static pod
		return audit.Workload{Namespace: pod.Namespace, Kind: "Pod", Name: pod.Name}, "", ""
	}
	workload = audit.Workload{Namespace: pod.Namespace, Kind: controller.Kind, Name: controller.Name}
	version, err := schema.ParseGroupVersion(controller.APIVersion)
	switch {
	case err != nil:
	case version.Group == "apps" && controller.Kind == "ReplicaSet":
		return workload, replicaSets, controller.UID
	case version.Group == "batch" && controller.Kind == "Job":
		return workload, jobs, controller.UID
	}
	return workload, "", controller.UID
}

// resolve adds the owners of the chosen objects of a kind.
func resolve(ctx context.Context, client *kubeclient.Client, kind, namespace string, chosen map[types.UID]bool, top map[types.UID]audit.Workload) error {
	resource := map[string]schema.GroupVersionResource{
		replicaSets: {Group: "apps", Version: "v1", Resource: replicaSets},
		jobs:        {Group: "batch", Version: "v1", Resource: jobs},
	}[kind]
	list := func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return client.Metadata.Resource(resource).Namespace(namespace).List(ctx, options)
	}
	return each(ctx, kind, list, func(object runtime.Object) error {
		of, err := meta.Accessor(object)
		if err != nil || !chosen[of.GetUID()] {
			return err
		}
		if controller := metav1.GetControllerOfNoCopy(of); controller != nil {
			top[of.GetUID()] = audit.Workload{Namespace: of.GetNamespace(), Kind: controller.Kind, Name: controller.Name}
		}
		return nil
	})
}

// usesOf lists the images of a pod.
func usesOf(pod *core.Pod, workload audit.Workload) (uses []audit.Use) {
	ran := map[string]string{} // by container, whose names are unique in a pod
	for _, statuses := range [][]core.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		for _, status := range statuses {
			ran[status.Name] = audit.RunningDigest(status.ImageID)
		}
	}
	add := func(kind, name, image, digest string) {
		uses = append(uses, audit.Use{Workload: workload, Container: kind + " " + name, Image: image, Running: digest})
	}
	for _, c := range pod.Spec.InitContainers {
		add("init container", c.Name, c.Image, ran[c.Name])
	}
	for _, c := range pod.Spec.Containers {
		add("container", c.Name, c.Image, ran[c.Name])
	}
	for _, c := range pod.Spec.EphemeralContainers {
		add("ephemeral container", c.Name, c.Image, ran[c.Name])
	}
	for _, v := range pod.Spec.Volumes {
		if v.Image != nil && v.Image.Reference != "" {
			add("image volume", v.Name, v.Image.Reference, "")
		}
	}
	return uses
}

// listPage lists some objects.
type listPage func(context.Context, metav1.ListOptions) (runtime.Object, error)

// each calls do for every object of a list, page by page. Where the API server has forgotten the state that a list began with,
// it goes on with a newer one: what was made or deleted meanwhile may be missed or seen, and nothing else.
func each(ctx context.Context, what string, list listPage, do func(runtime.Object) error) error {
	options := metav1.ListOptions{Limit: pageSize}
	for expired := false; ; {
		page, err := bounded(ctx, list, options)
		if token := newerState(err); token != "" && !expired {
			options.Continue, expired = token, true
			continue
		}
		if err == nil {
			err = meta.EachListItem(page, do)
		}
		if err != nil {
			return fmt.Errorf("listing %s: %w", what, err)
		}
		of, err := meta.ListAccessor(page)
		if err != nil {
			return fmt.Errorf("listing %s: %w", what, err)
		}
		if options.Continue = of.GetContinue(); options.Continue == "" {
			return nil
		}
		expired = false
	}
}

func bounded(ctx context.Context, list listPage, options metav1.ListOptions) (runtime.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	return list(ctx, options)
}

// newerState gives the token with which a list that has expired goes on from a newer state; "" for other errors.
func newerState(err error) string {
	var status apierrors.APIStatus
	if !apierrors.IsResourceExpired(err) || !errors.As(err, &status) {
		return ""
	}
	return status.Status().Continue
}

// Namespaces reads the labels of namespaces: of those that are named, or of all.
func Namespaces(ctx context.Context, client *kubeclient.Client, named []string) (audit.Namespaces, error) {
	resource := client.Metadata.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
	namespaces := audit.Namespaces{}
	for _, name := range named { // which may be all that may be read
		ctx, cancel := context.WithTimeout(ctx, pageTimeout)
		namespace, err := resource.Get(ctx, name, metav1.GetOptions{})
		cancel()
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, fmt.Errorf("reading namespace %q: %w", name, err)
		default:
			namespaces[name] = namespace.Labels
		}
	}
	if len(named) > 0 {
		return namespaces, nil
	}
	list := func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return resource.List(ctx, options)
	}
	err := each(ctx, "namespaces", list, func(object runtime.Object) error {
		of, err := meta.Accessor(object)
		if err == nil {
			namespaces[of.GetName()] = of.GetLabels()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return namespaces, nil
}

// Trust lists the trust resources of a cluster.
func Trust(ctx context.Context, client *kubeclient.Client) (shelltrust.Resources, error) {
	var found shelltrust.Resources
	err := listed(ctx, client, kubeclient.TrustPolicies(), func(object *unstructured.Unstructured) {
		found.Policies = append(found.Policies, kubeclient.DecodePolicy(object))
	})
	if err != nil {
		return shelltrust.Resources{}, err
	}
	err = listed(ctx, client, kubeclient.TrustStores(), func(object *unstructured.Unstructured) {
		found.Stores = append(found.Stores, kubeclient.DecodeStore(object))
	})
	if err != nil {
		return shelltrust.Resources{}, err
	}
	found = found.Read(func(ref shelltrust.BundleRef) shelltrust.Bundle { return Bundle(ctx, client, ref) })
	return found, nil
}

// Bundle reads what a trust store names by its caBundleFrom, by a list of that one object, as the service watches it.
func Bundle(ctx context.Context, client *kubeclient.Client, ref shelltrust.BundleRef) shelltrust.Bundle {
	options := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, ref.Name).String()}
	list := func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return client.Core.ConfigMaps(ref.Namespace).List(ctx, options)
	}
	if ref.Kind == shelltrust.Secret {
		list = func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return client.Core.Secrets(ref.Namespace).List(ctx, options)
		}
	}
	found := shelltrust.Bundle{Problem: "does not exist"}
	page, err := bounded(ctx, list, options)
	if err == nil {
		err = meta.EachListItem(page, func(object runtime.Object) error {
			of, err := meta.Accessor(object)
			if err == nil {
				found = kubeclient.BundleOf(of, ref.Key)
			}
			return err
		})
	}
	if err != nil {
		return kubeclient.Unread(err)
	}
	return found
}

func listed(ctx context.Context, client *kubeclient.Client, of kubeclient.Target, do func(*unstructured.Unstructured)) error {
	list := func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return client.Dynamic.Resource(of.Resource).List(ctx, options)
	}
	return each(ctx, of.String(), list, func(object runtime.Object) error {
		o, ok := object.(*unstructured.Unstructured)
		if !ok {
			return fmt.Errorf("the API server gave a %T", object)
		}
		do(o)
		return nil
	})
}
