package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Epoch is a value in a ConfigMap that all replicas watch: one of them, told of a change, tells the others by it.
type Epoch struct {
	client  *Client
	link    *link
	current *one[map[string]string]
}

// NewEpoch prepares; Watch does the work. changed is called when the value has become another, and not for the first
// one that is seen.
func NewEpoch(client *Client, namespace, configMap string, log *slog.Logger, changed func()) *Epoch {
	e := &Epoch{client: client, current: watchOne("configmaps", namespace, configMap, decodeConfigMap)}
	first := true
	e.current.mirror.changed = func() {
		if !first {
			changed()
		}
		first = false
	}
	e.link = newLink(log, "epoch", e.current.target)
	return e
}

// Watch follows the value until ctx ends. Run it once.
func (e *Epoch) Watch(ctx context.Context) {
	e.client.watch(ctx, e.current.target, &e.current.mirror, e.link.report)
}

// Connected tells whether changes are being seen.
func (e *Epoch) Connected() bool { return e.link.connected() }

// Bump sets the value. To set the same again changes nothing. It fails where the ConfigMap does not exist.
func (e *Epoch) Bump(ctx context.Context, value string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	patch, err := json.Marshal(map[string]any{"data": map[string]string{"epoch": value}})
	if err != nil {
		return fmt.Errorf("epoch: %w", err)
	}
	of := e.current.target
	_, err = e.client.dynamic.Resource(of.resource).Namespace(of.namespace).Patch(ctx, of.name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	if err != nil {
		return fmt.Errorf("epoch in %s: %w", of, err)
	}
	return nil
}
