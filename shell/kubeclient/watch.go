package kubeclient

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// Target is what a watch is of.
type Target struct {
	Resource  schema.GroupVersionResource
	Namespace string // "" for cluster-scoped resources
	Name      string // one object only, which a role may allow by its name; "" for all
	Fields    string // a field selector; "" for all
	Labels    string // a label selector; "" for all
	Metadata  bool   // only the metadata are read
	Page      int64  // objects of a list that are in memory as they are at once, at most; 0 for 500
}

// String is for logs.
func (t Target) String() string {
	if t.Name == "" {
		return t.Resource.Resource
	}
	return fmt.Sprintf("%s %s/%s", t.Resource.Resource, t.Namespace, t.Name)
}

// Watch keeps a store up to date until ctx ends, and reports to health when calls fail and when changes are seen again.
// client-go's own log of this is off.
// It uses a reflector and no informer: only a reflector's backoff can be set (client-go's default goes up to a minute, which
// is long for an API server that was restarted), and an informer keeps the raw objects beside the decoded values.
func (c *Client) Watch(ctx context.Context, of Target, into cache.ReflectorStore, health *Health) {
	c.WatchReduced(ctx, of, into, health, nil)
}

// WatchReduced is Watch with objects that are reduced to what is needed as they arrive, page by page, so that the whole ones are never
// in memory all together. What reduce gives must have the resource version; nil for a reduce that changes nothing.
func (c *Client) WatchReduced(ctx context.Context, of Target, into cache.ReflectorStore, health *Health, reduce func(runtime.Object) runtime.Object) {
	report := func(ctx context.Context, err error) error {
		if ctx.Err() == nil && !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) { // those only ask for a new list
			health.report(of, err)
		}
		return err
	}
	list, watch := c.calls(of)
	calls := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			bounded, cancel := context.WithTimeout(ctx, RequestTimeout)
			defer cancel()
			if options.ResourceVersion == "0" { // any version, even one older than what was seen already; see Renew
				options.ResourceVersion = ""
			}
			objects, err := list(bounded, of.narrow(options))
			if err != nil {
				return nil, report(ctx, err)
			}
			return reducedList(objects, reduce)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
			events, err := watch(ctx, of.narrow(options))
			if options.SendInitialEvents != nil && apierrors.IsInvalid(err) {
				return events, err // the API server does not stream lists; the reflector lists instead
			}
			if err == nil && reduce != nil {
				events = apiwatch.Filter(events, func(event apiwatch.Event) (apiwatch.Event, bool) {
					if event.Type == apiwatch.Added || event.Type == apiwatch.Modified || event.Type == apiwatch.Deleted {
						event.Object = reduce(event.Object)
					}
					return event, true
				})
			}
			return events, report(ctx, err)
		},
	}
	reflector := cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(calls, c.Dynamic),
		nil, into, cache.ReflectorOptions{
			Name: of.String(),
			// At most 2.5 s between two tries.
			Backoff: &wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.25, Steps: 10, Cap: 2 * time.Second},
		})
	reflector.RunWithContext(klog.NewContext(ctx, logr.Discard()))
}

// reducedList reduces the items of a page.
func reducedList(page runtime.Object, reduce func(runtime.Object) runtime.Object) (runtime.Object, error) {
	if reduce == nil {
		return page, nil
	}
	of, err := meta.ListAccessor(page)
	if err != nil {
		return nil, err
	}
	reduced := &internalversion.List{ListMeta: metav1.ListMeta{ResourceVersion: of.GetResourceVersion(), Continue: of.GetContinue(), RemainingItemCount: of.GetRemainingItemCount()}}
	err = meta.EachListItem(page, func(item runtime.Object) error {
		reduced.Items = append(reduced.Items, reduce(item))
		return nil
	})
	return reduced, err
}

// calls gives the requests of a watch. Objects of the core group arrive as their Go types, others as unstructured ones.
func (c *Client) calls(of Target) (list func(context.Context, metav1.ListOptions) (runtime.Object, error), watch func(context.Context, metav1.ListOptions) (apiwatch.Interface, error)) {
	if of.Metadata {
		resource := c.Metadata.Resource(of.Resource).Namespace(of.Namespace)
		list = func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return resource.List(ctx, options)
		}
		return list, resource.Watch
	}
	if of.Resource.Group != "" {
		resource := c.Dynamic.Resource(of.Resource).Namespace(of.Namespace)
		list = func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return resource.List(ctx, options)
		}
		return list, resource.Watch
	}
	client := c.Core.RESTClient()
	list = func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return client.Get().Namespace(of.Namespace).Resource(of.Resource.Resource).VersionedParams(&options, scheme.ParameterCodec).Do(ctx).Get()
	}
	watch = func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
		options.Watch = true
		return client.Get().Namespace(of.Namespace).Resource(of.Resource.Resource).VersionedParams(&options, scheme.ParameterCodec).Watch(ctx)
	}
	return list, watch
}

func (t Target) narrow(options metav1.ListOptions) metav1.ListOptions {
	options.FieldSelector, options.LabelSelector = t.Fields, t.Labels
	if t.Page > 0 && options.Limit > t.Page {
		options.Limit = t.Page
	}
	if t.Name != "" {
		options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, t.Name).String()
	}
	return options
}
