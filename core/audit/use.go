package audit

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Workload is what a person deploys: the topmost owner of pods.
type Workload struct {
	Namespace string `json:"namespace,omitempty"` // "" where the source has none
	Kind      string `json:"kind"`
	Name      string `json:"name"`
}

// Use is an image of a workload.
type Use struct {
	Workload
	Container string `json:"container"`         // with its kind, such as "init container setup"
	Image     string `json:"image"`             // as it is written
	Running   string `json:"running,omitempty"` // digest of what runs; "" where nothing runs, or the node does not say
	Pods      int    `json:"pods,omitempty"`    // that share all of this; 0 for a workload that was read from a file
}

// Merged adds up the pods of equal uses, and sorts them by workload and container.
func Merged(uses []Use) []Use {
	pods := map[Use]int{}
	for _, use := range uses {
		n := use.Pods
		use.Pods = 0
		pods[use] += n
	}
	merged := make([]Use, 0, len(pods))
	for use, n := range pods {
		use.Pods = n
		merged = append(merged, use)
	}
	slices.SortFunc(merged, compareUses)
	return merged
}

func compareUses(a, b Use) int {
	return cmp.Or(
		cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.Container, b.Container), cmp.Compare(a.Image, b.Image), cmp.Compare(a.Running, b.Running),
	)
}

// RunningDigest reads the imageID of a container's status: the digest of what was pulled. It is "" for the other forms that
// container runtimes write, such as the identifier of an unpacked image.
func RunningDigest(imageID string) string {
	_, digest, found := strings.Cut(imageID, "@")
	if !found || !digestForm.MatchString(digest) {
		return ""
	}
	return digest
}

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// Check is what is verified once: an image under a trust policy.
type Check struct {
	Image       string // as it is written, or with the digest that runs
	TrustPolicy string // "" for the default
}

// Demand says which trust policy holds for a namespace.
type Demand struct {
	trustPolicy string // may contain {{ namespace }}
}

// placeholder stands for the namespace in the name of a trust policy; anything for whatever else is in such braces.
var (
	placeholder = regexp.MustCompile(`\{\{\s*namespace\s*\}\}`)
	anything    = regexp.MustCompile(`\{\{|\}\}`)
)

// NewDemand takes the name of the trust policy, in which {{ namespace }} stands for the namespace; "" for the default.
func NewDemand(trustPolicy string) (Demand, error) {
	if anything.MatchString(placeholder.ReplaceAllString(trustPolicy, "")) {
		return Demand{}, fmt.Errorf("trust policy %q: the only variable is {{ namespace }}", reason.Clip(trustPolicy, reason.MaxName))
	}
	return Demand{trustPolicy}, nil
}

// TrustPolicy is the name of the trust policy for a namespace. Where a workload has none, the variable stays, so that no policy is
// found: an empty name would mean the default.
func (d Demand) TrustPolicy(namespace string) string {
	if namespace == "" {
		return d.trustPolicy
	}
	return placeholder.ReplaceAllLiteralString(d.trustPolicy, namespace)
}

// Checks gives what is verified of a use: what a restart would pull, and what runs, where that may be something else. An image
// that cannot be parsed has one check, which denies it.
func (d Demand) Checks(use Use) (restart Check, runs *Check) {
	restart = Check{Image: use.Image, TrustPolicy: d.TrustPolicy(use.Namespace)}
	ref, err := image.Parse(use.Image)
	if err != nil || use.Running == "" || ref.Digest == use.Running {
		return restart, nil
	}
	ref.Digest = use.Running
	return restart, &Check{Image: ref.String(), TrustPolicy: restart.TrustPolicy}
}

// AllChecks lists the distinct checks of uses. Those of one repository stand together, so that what they have in common is
// looked up once.
func (d Demand) AllChecks(uses []Use) []Check {
	var all []Check
	for _, use := range uses {
		restart, runs := d.Checks(use)
		all = append(all, restart)
		if runs != nil {
			all = append(all, *runs)
		}
	}
	slices.SortFunc(all, func(a, b Check) int {
		return cmp.Or(cmp.Compare(a.Image, b.Image), cmp.Compare(a.TrustPolicy, b.TrustPolicy))
	})
	return slices.Compact(all)
}
