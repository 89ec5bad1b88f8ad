package inventory

import (
	core "k8s.io/api/core/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
)

// Running is the field selector of pods that run, or are about to.
const Running = running

// UsesOf lists the images of a pod, without its workload.
func UsesOf(pod *core.Pod) []audit.Use { return usesOf(pod, audit.Workload{}) }
