package certmanager

import (
	"context"
	"errors"
	"fmt"
	"time"

	core "k8s.io/api/core/v1"
	events "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// copyEvery is how often the copies are compared. They are not watched, so that no permission to list or watch in another's
// namespace is needed.
const copyEvery = 20 * time.Second

// Copies keeps copies of the CA bundle in other namespaces, for programs that mount it: a pod can mount ConfigMaps of its own
// namespace only. It fills ConfigMaps that exist, and creates none, since a right to create cannot be held to a name. Before
// another CA signs it records events, because such programs must be restarted until then.
type Copies struct {
	from       *Certificates
	namespaces []string
	instance   string            // this process, in events
	said       map[string]string // namespace -> what was logged of it last; used by the goroutine that runs Run
	recorded   map[string]bool   // names of events that exist or existed; used by the same goroutine
}

// NewCopies prepares; Run does the work. instance names this process.
func NewCopies(from *Certificates, namespaces []string, instance string) *Copies {
	return &Copies{from: from, namespaces: namespaces, instance: instance, said: map[string]string{}, recorded: map[string]bool{}}
}

// Run keeps the copies until ctx ends. Run it once.
func (c *Copies) Run(ctx context.Context) {
	if len(c.namespaces) == 0 {
		return
	}
	for {
		pause := min(copyEvery, c.from.policy.CADuration/50) // where a CA lives for seconds
		if !c.keep(ctx) {
			pause = firstRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// keep brings all copies up to date, as far as that is possible. It gives false while there is no CA.
func (c *Copies) keep(ctx context.Context) bool {
	objects, err := c.from.gather(ctx)
	if err != nil {
		return true // Certificates.Run logs the same, and is in no more of a hurry
	}
	now := time.Now()
	text := c.from.policy.Anchors(objects.state, now)
	if text == "" {
		return false
	}
	for _, namespace := range c.namespaces {
		err := c.fill(ctx, namespace, text)
		if change, pending := c.from.policy.Pending(objects.state, now); err == nil && pending {
			err = c.announce(ctx, namespace, change, now)
		}
		if ctx.Err() == nil {
			c.say(namespace, err)
		}
	}
	return true
}

// errNoCopy is not a fault: nobody in that namespace wants a copy.
var errNoCopy = errors.New("there is no ConfigMap to fill, or certmanager has no Role there")

// fill updates the ConfigMap of a namespace if it holds something else.
func (c *Copies) fill(ctx context.Context, namespace, text string) error {
	client := c.from.client.Core.ConfigMaps(namespace)
	have, err := get(ctx, client, "configmaps", BundleConfigMap)
	switch {
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%w: %w", errNoCopy, err)
	case err == nil && have == nil:
		return errNoCopy
	case err != nil || have.Data[keyBundle] == text:
		return err
	}
	configMap := have.DeepCopy()
	set(&configMap.Data, keyBundle, text)
	if err := update(ctx, client, "configmaps", configMap); !apierrors.IsConflict(err) { // else it is read again
		return err
	}
	return nil
}

// say logs the state of a namespace when it is another than before.
func (c *Copies) say(namespace string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if said, known := c.said[namespace]; known && said == text {
		return
	}
	c.said[namespace] = text
	log := c.from.log.With("namespace", namespace, "configMap", BundleConfigMap)
	switch {
	case err == nil:
		log.Info("CA bundle is copied")
	case errors.Is(err, errNoCopy):
		log.Info("CA bundle is not copied", "reason", err)
	default:
		log.Error("CA bundle cannot be copied; it is tried again", "error", err)
	}
}

// notices are the times before a CA signs at which an event is recorded, beside the one when it was published.
var notices = []time.Duration{24 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour}

// announce records that another CA will sign, once for each of the notices. The event is about the namespace, whose programs
// are to be restarted. Events about namespaces, as about all cluster-scoped objects, are in the namespace default.
func (c *Copies) announce(ctx context.Context, namespace string, change certificates.Change, now time.Time) error {
	threshold := "published"
	for _, notice := range notices {
		if change.At.Sub(now) <= notice {
			threshold = notice.String()
			break
		}
	}
	name := fmt.Sprintf("%s.%s.%s", clip(namespace, maxEventPrefix), certificates.Fingerprint(change.Authority)[:16], threshold)
	if c.recorded[name] {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, kubeclient.RequestTimeout)
	defer cancel()
	_, err := c.from.client.Events.Events(eventNamespace).Create(ctx, &events.Event{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: eventNamespace},
		EventTime:  metav1.NewMicroTime(now.UTC()),
		Type:       core.EventTypeNormal,
		Reason:     "CAChange",
		Action:     "Announce",
		Note: fmt.Sprintf("On %s the service %s gets certificates of a CA that was published on %s. Programs in the namespace %s that mount ConfigMap %s and started before that "+
			"do not trust it yet. Restart them until then: kubectl -n %s rollout restart deployment",
			day(change.At), certificates.Subject, day(change.Since), namespace, BundleConfigMap, namespace),
		ReportingController: reportingController,
		ReportingInstance:   clip(c.instance, maxEventInstance),
		Regarding:           core.ObjectReference{APIVersion: "v1", Kind: "Namespace", Name: namespace},
	}, metav1.CreateOptions{FieldManager: kubeclient.FieldManager})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("event on the namespace %s: %w", namespace, err)
	}
	c.recorded[name] = true
	return nil
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
