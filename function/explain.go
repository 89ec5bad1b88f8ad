package function

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
	"github.com/nirmata/kyverno-notation-venafi/shell/records"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify"
)

// Explain decides on a request as the service does, and gives the record of the decision.
func (a *Audit) Explain(ctx context.Context, body []byte, snapshot trust.Snapshot) (record.Record, error) {
	start := time.Now()
	request, err := core.ParseRequest(body)
	if err != nil {
		return record.Record{}, err
	}
	plan, err := core.NewPlan(request, snapshot, a.settings.DefaultTrustPolicy)
	if err != nil {
		return record.Record{}, err
	}
	return a.explain(ctx, planned{request, plan, digested(newAskedBody(body, true))}, start), nil
}

// ExplainAgain gathers anew for the images of a recorded decision, and decides under its trust policy as it is now.
func (a *Audit) ExplainAgain(ctx context.Context, before record.Record, snapshot trust.Snapshot) (record.Record, error) {
	start := time.Now()
	plan, err := before.Plan.Again(snapshot)
	if err != nil {
		return record.Record{}, err
	}
	body := askedBody{digest: before.Request.Digest, size: before.Request.Bytes}
	return a.explain(ctx, planned{core.Request{Object: before.Object}, plan, body}, start), nil
}

func (a *Audit) explain(ctx context.Context, asked planned, start time.Time) record.Record {
	ctx, cancel := context.WithTimeout(ctx, a.settings.RequestTimeout)
	defer cancel()
	made := decision{id: records.NewID(start), asked: asked, now: time.Now().UTC()}
	made.recording = &verify.Recording{Decision: made.id}
	made.facts = a.engine.gatherer.GatherRecorded(ctx, asked.plan.Tasks, made.now, made.recording)
	made.verdict = core.Decide(asked.plan, made.facts, made.now)
	made.took = time.Since(start)
	return made.record("")
}

// Pod reads a pod of the cluster, of the kubeconfig's namespace where namespace is "".
func (a *Audit) Pod(ctx context.Context, namespace, name string) (any, error) {
	client, err := a.connect()
	if err != nil {
		return nil, fmt.Errorf("no pod: name a cluster in --kubeconfig: %w", err)
	}
	if namespace == "" {
		namespace = client.Namespace
	}
	ctx, cancel := context.WithTimeout(ctx, kubeclient.RequestTimeout)
	defer cancel()
	pod, err := client.Core.Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("pod %s in namespace %s: %w", name, namespace, err)
	}
	var object map[string]any
	text, err := json.Marshal(pod)
	if err == nil {
		err = json.Unmarshal(text, &object)
	}
	if err != nil {
		return nil, err
	}
	object["kind"] = "Pod" // which the client leaves out
	return object, nil
}
