package audit

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
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
