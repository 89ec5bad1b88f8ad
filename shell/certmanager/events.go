package certmanager

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	events "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

const (
	// eventNamespace is where events on cluster-scoped objects live.
	eventNamespace = metav1.NamespaceDefault
	// reportingController names us in our events.
	reportingController = "nirmata.io/kyverno-notation-venafi-certmanager"
)

// Bounds that the API server puts on parts of an event (Kubernetes, pkg/apis/core/validation/events.go), in bytes.
const (
	maxEventNote     = 1024
	maxEventInstance = 128
	maxEventPrefix   = 180 // of its name, which may have 253
)

// recordEvent creates the event of a warning. The event's name is derived from the warning, so that another process that
// records the same warning, after a change of leaders or at the same time, does not create a second event.
func recordEvent(ctx context.Context, client *kubeclient.Client, warning shelltrust.Warning, instance string, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, kubeclient.RequestTimeout)
	defer cancel()
	_, err := client.Events.Events(eventNamespace).Create(ctx, &events.Event{
		ObjectMeta:          metav1.ObjectMeta{Name: eventName(warning), Namespace: eventNamespace},
		EventTime:           metav1.NewMicroTime(now.UTC()),
		Type:                core.EventTypeWarning,
		Reason:              warning.Reason,
		Action:              "Assess",
		Note:                clip(warning.Text, maxEventNote),
		ReportingController: reportingController,
		ReportingInstance:   clip(instance, maxEventInstance),
		Regarding: core.ObjectReference{
			APIVersion: shelltrust.GroupVersion, Kind: "TrustStore", Name: warning.Store, UID: types.UID(warning.UID),
		},
	}, metav1.CreateOptions{FieldManager: kubeclient.FieldManager})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("event on the trust store %s: %w", warning.Store, err)
	}
	return nil
}

// eventName is the store's name and a hash of the store, the certificate and the threshold.
func eventName(w shelltrust.Warning) string {
	hash := sha256.Sum256([]byte(w.UID + "\n" + w.Fingerprint + "\n" + w.Threshold))
	return strings.TrimRight(reason.Clip(w.Store, maxEventPrefix), "-.") + fmt.Sprintf(".%x", hash[:16])
}

// clip cuts a text to what the API server accepts, in bytes, the mark of the cut included.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return reason.Clip(text, most-len("..."))
}
