package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// Epoch is a value in a ConfigMap that all replicas watch. The replica that receives a CloudEvent sets it, and so notifies the
// others.
type Epoch struct {
	client  *kubeclient.Client
	health  *kubeclient.Health
	current *kubeclient.Object[map[string]string]
}

// NewEpoch prepares; Watch does the work. changed is called when the value changes, not when it is first seen.
func NewEpoch(client *kubeclient.Client, namespace, configMap string, log *slog.Logger, changed func()) *Epoch {
	e := &Epoch{client: client, current: kubeclient.NewConfigMap(namespace, configMap, configMapData)}
	first := true
	e.current.OnChange(func() {
		if !first {
			changed()
		}
		first = false
	})
	e.health = kubeclient.NewHealth(log, "epoch", e.current.Target)
	return e
}

// Watch follows the value until ctx ends. Run it once.
func (e *Epoch) Watch(ctx context.Context) {
	e.current.Watch(ctx, e.client, e.health)
}

// Connected reports whether changes are being seen.
func (e *Epoch) Connected() bool { return e.health.Connected() }

// Bump sets the value; it is idempotent. It fails if the ConfigMap does not exist.
func (e *Epoch) Bump(ctx context.Context, value string) error {
	ctx, cancel := context.WithTimeout(ctx, kubeclient.RequestTimeout)
	defer cancel()
	patch, err := json.Marshal(map[string]any{"data": map[string]string{"epoch": value}}) // a JSON merge patch
	if err != nil {
		return fmt.Errorf("epoch: %w", err)
	}
	of := e.current.Target
	_, err = e.client.Core.ConfigMaps(of.Namespace).Patch(ctx, of.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: kubeclient.FieldManager})
	if err != nil {
		return fmt.Errorf("epoch in %s: %w", of, err)
	}
	return nil
}

func configMapData(configMap *core.ConfigMap) map[string]string { return configMap.Data }
