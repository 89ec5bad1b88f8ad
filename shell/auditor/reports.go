package auditor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// form is an API group that reports are written in.
type form struct {
	schema.GroupVersionResource
	kind   string
	source bool // a report as a whole names its source
}

// forms lists the API groups for reports; the first that is installed is used.
func forms() []form {
	return []form{
		{schema.GroupVersionResource{Group: "openreports.io", Version: "v1alpha1", Resource: "reports"}, "Report", true},
		{schema.GroupVersionResource{Group: "wgpolicyk8s.io", Version: "v1alpha2", Resource: "policyreports"}, "PolicyReport", false},
	}
}

// discoverEvery is how often it is looked which of them is installed.
const discoverEvery = 30 * time.Second

// ours selects the reports that the auditor wrote.
const ours = auditor.LabelManagedBy + "=" + auditor.ManagedBy

// pageSize is how many pods or reports are listed at once: who makes them can make each of over a megabyte.
const pageSize = 100

// reports watches and writes reports.
type reports struct {
	*Auditor
	form    *atomic.Pointer[form] // that is used; nil while none is installed
	failing *complaint
}

func newReports(a *Auditor) reports {
	return reports{a, &atomic.Pointer[form]{}, &complaint{log: a.log, what: "reports cannot be written; they are tried again", over: "reports are written again"}}
}

// watch follows the reports in the API group that is installed, until ctx ends.
func (r reports) watch(ctx context.Context) {
	told := false
	for ctx.Err() == nil {
		form, others := r.discover(ctx)
		if form == nil {
			if !told && ctx.Err() == nil {
				r.log.Warn("no reports are written: neither openreports.io/v1alpha1 nor wgpolicyk8s.io/v1alpha2 is installed")
			}
			told = true
			pause(ctx, discoverEvery)
			continue
		}
		told = false
		r.follow(ctx, *form, others)
	}
}

// follow watches the reports of one API group until another is to be used. Those that are left in the other group are deleted.
func (r reports) follow(ctx context.Context, of form, others []form) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.form.Store(&of)
	defer r.form.Store(nil)
	defer r.tell(func(time.Time) { r.state.Unlisted() })
	r.log.Info("reports are written", "resource", of.GroupResource().String())
	target := kubeclient.Target{Resource: of.GroupVersionResource, Labels: ours, Page: pageSize}
	store := newFeed(
		func(report auditor.Report) { r.tell(func(time.Time) { r.state.Report(report) }) },
		func(report auditor.Report) {
			r.tell(func(time.Time) { r.state.ReportGone(report.Metadata.Namespace, report.Metadata.Name) })
		},
		func(reports []auditor.Report) { r.tell(func(time.Time) { r.state.Reports(reports) }) },
	)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.client.WatchReduced(ctx, target, store, kubeclient.NewHealth(r.log, "reports", target), reduce(decode))
	}()
	defer func() {
		cancel()
		<-done
	}()
	for _, other := range others {
		r.purge(ctx, other)
	}
	for pause(ctx, discoverEvery) {
		if now, _ := r.discover(ctx); now == nil || *now != of {
			return
		}
	}
}

// discover gives the API group to use, nil for none, and the others that are installed. Where an API server does not answer, what
// was used last stays.
func (r reports) discover(ctx context.Context) (use *form, others []form) {
	for _, form := range forms() {
		switch served, err := serves(ctx, r.client, form); {
		case err != nil:
			return r.form.Load(), nil
		case served && use == nil:
			use = &form
		case served:
			others = append(others, form)
		}
	}
	return use, others
}

// serves asks whether an API server serves the resource.
func serves(ctx context.Context, client *kubeclient.Client, of form) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, kubeclient.RequestTimeout)
	defer cancel()
	var served metav1.APIResourceList
	text, err := client.Core.RESTClient().Get().AbsPath("/apis", of.Group, of.Version).DoRaw(ctx)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &served)
	}
	for _, resource := range served.APIResources {
		if resource.Name == of.Resource {
			return true, err
		}
	}
	return false, err
}

// ErrNoReports is that an API server has neither API group for reports.
var ErrNoReports = errors.New("neither openreports.io/v1alpha1 nor wgpolicyk8s.io/v1alpha2 is installed")

// Written lists the reports that an auditor wrote, and tells whether there are more than most.
func Written(ctx context.Context, client *kubeclient.Client, most int) (written []auditor.Report, more bool, err error) {
	for _, form := range forms() {
		served, err := serves(ctx, client, form)
		if err != nil {
			return nil, false, err
		}
		if !served {
			continue
		}
		options := metav1.ListOptions{LabelSelector: ours, Limit: pageSize}
		for {
			page, err := client.Dynamic.Resource(form.GroupVersionResource).List(ctx, options)
			if err != nil {
				return nil, false, err
			}
			for i := range page.Items {
				if len(written) == most {
					return written, true, nil
				}
				written = append(written, decode(&page.Items[i]))
			}
			if options.Continue = page.GetContinue(); options.Continue == "" {
				return written, false, nil
			}
		}
	}
	return nil, false, ErrNoReports
}

// purge deletes our reports in an API group that is not used any longer.
func (r reports) purge(ctx context.Context, of form) {
	options := metav1.ListOptions{LabelSelector: ours, Limit: pageSize}
	for {
		page, err := r.client.Metadata.Resource(of.GroupVersionResource).List(ctx, options)
		for i := range lenOf(page, err) {
			if !auditor.Ours(page.Items[i].Name) {
				continue
			}
			if err = r.client.Dynamic.Resource(of.GroupVersionResource).Namespace(page.Items[i].Namespace).Delete(ctx, page.Items[i].Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				break
			}
			err = nil
		}
		if err != nil {
			if ctx.Err() == nil {
				r.log.Warn("reports in an API group that is not used any longer are not deleted", "resource", of.GroupResource().String(), "error", err)
			}
			return
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return
		}
	}
}

func lenOf(page *metav1.PartialObjectMetadataList, err error) int {
	if err != nil {
		return 0
	}
	return len(page.Items)
}

// decode reads a report. What cannot be read is empty, and so is written anew.
func decode(object *unstructured.Unstructured) auditor.Report {
	var report auditor.Report
	if runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &report) != nil {
		report = auditor.Report{}
	}
	report.Metadata.Namespace, report.Metadata.Name, report.Metadata.ResourceVersion = object.GetNamespace(), object.GetName(), object.GetResourceVersion()
	return report
}

// do records the Event of a write and writes.
func (r reports) do(ctx context.Context, write *auditor.Write) {
	of := r.form.Load()
	var stored *auditor.Report
	err := errors.New("the API group for reports is not installed any longer")
	if of != nil {
		if err = r.events.record(ctx, write); err == nil || write.Late {
			stored, err = r.put(ctx, *of, write)
		}
	}
	outcome, name := auditor.Written, "written"
	switch {
	case err == nil && write.Report == nil:
		name = "deleted"
	case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err):
		outcome, name = auditor.Conflict, "conflict"
	case err != nil:
		outcome, name = auditor.Failed, "failed"
	}
	if ctx.Err() == nil && outcome != auditor.Conflict {
		r.failing.tell(err)
	}
	r.count(r.counts.Reports, name)
	r.tell(func(now time.Time) {
		r.state.Wrote(write, outcome, stored, now)
		if outcome == auditor.Conflict && stored != nil {
			r.state.Report(*stored)
		}
		if apierrors.IsNotFound(err) {
			r.state.ReportGone(write.Namespace, write.Name)
		}
	})
}

// put writes or deletes a report and gives it as it is stored then. With a conflict it gives the one that is in the way.
func (r reports) put(ctx context.Context, of form, write *auditor.Write) (*auditor.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, kubeclient.RequestTimeout)
	defer cancel()
	client := r.client.Dynamic.Resource(of.GroupVersionResource).Namespace(write.Namespace)
	if write.Report == nil {
		err := client.Delete(ctx, write.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &write.Version}})
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		if apierrors.IsConflict(err) {
			return r.existing(ctx, of, write), err
		}
		return nil, err
	}
	report := *write.Report
	report.APIVersion, report.Kind = of.GroupVersion().String(), of.kind
	if !of.source {
		report.Source = ""
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&report)
	if err != nil {
		return nil, fmt.Errorf("report %s: %w", write.Name, err)
	}
	var stored *unstructured.Unstructured
	if write.Version == "" {
		stored, err = client.Create(ctx, &unstructured.Unstructured{Object: content}, metav1.CreateOptions{FieldManager: kubeclient.FieldManager})
	} else {
		stored, err = client.Update(ctx, &unstructured.Unstructured{Object: content}, metav1.UpdateOptions{FieldManager: kubeclient.FieldManager})
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return r.existing(ctx, of, write), err
	}
	if err != nil {
		return nil, fmt.Errorf("report %s in %s: %w", write.Name, write.Namespace, err)
	}
	read := decode(stored)
	return &read, nil
}

// existing reads the report that is in the way of a write; nil where it cannot be had. Someone may have taken its label off, so that
// it is not watched.
func (r reports) existing(ctx context.Context, of form, write *auditor.Write) *auditor.Report {
	found, err := r.client.Dynamic.Resource(of.GroupVersionResource).Namespace(write.Namespace).Get(ctx, write.Name, metav1.GetOptions{})
	if err != nil {
		r.failing.tell(err)
		return nil
	}
	read := decode(found)
	return &read
}

// pause waits; false where ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
