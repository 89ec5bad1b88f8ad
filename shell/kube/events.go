package kube

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

const (
	// eventNamespace is where events on cluster-scoped objects live.
	eventNamespace = "default"
	// reporter is who speaks in our events.
	reporter = "nirmata.io/kyverno-notation-venafi-certmanager"
)

// Bounds of the API server's on parts of an event (Kubernetes, pkg/apis/core/validation/events.go), in bytes.
const (
	maxEventNote     = 1024
	maxEventInstance = 128
	maxEventPrefix   = 180 // of its name, which may have 253
)

// tell creates the event of a warning. Its name follows from what it warns of, so that whoever tells it again, after a
// change of leaders or at the same time, does not tell it twice.
func (c *Client) tell(ctx context.Context, warning shelltrust.Warning, instance string, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	events := schema.GroupVersionResource{Group: "events.k8s.io", Version: "v1", Resource: "events"}
	event := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "events.k8s.io/v1", "kind": "Event",
		"metadata":            map[string]any{"name": eventName(warning), "namespace": eventNamespace},
		"eventTime":           now.UTC().Format(metav1.RFC3339Micro),
		"type":                "Warning",
		"reason":              warning.Reason,
		"action":              "Assess",
		"note":                cut(warning.Text, maxEventNote),
		"reportingController": reporter,
		"reportingInstance":   cut(instance, maxEventInstance),
		"regarding": map[string]any{
			"apiVersion": shelltrust.GroupVersion, "kind": "TrustStore", "name": warning.Store, "uid": warning.UID,
		},
	}}
	_, err := c.dynamic.Resource(events).Namespace(eventNamespace).Create(ctx, event, metav1.CreateOptions{FieldManager: fieldManager})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("event on the trust store %s: %w", warning.Store, err)
	}
	return nil
}

// eventName is the store's name and a hash of the store, the certificate and the threshold.
func eventName(w shelltrust.Warning) string {
	hash := sha256.Sum256([]byte(w.UID + "\n" + w.Fingerprint + "\n" + w.Threshold))
	return strings.TrimRight(cut(w.Store, maxEventPrefix), "-.") + fmt.Sprintf(".%x", hash[:16])
}

func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "")
}
