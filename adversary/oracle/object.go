package oracle

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	kjson "sigs.k8s.io/json"
)

// Field is an image field of an object.
type Field struct {
	Pointer string // RFC 6901
	Image   string
}

// Fields finds the images that a cluster would run for an object: by the Kubernetes API's own types, and in an object of
// a kind that is not known wherever a list of containers or volumes stands. False is for what no API server takes.
func Fields(object []byte) ([]Field, bool) {
	var kind struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if kjson.UnmarshalCaseSensitivePreserveInts(object, &kind) != nil {
		return nil, false
	}
	read := func(into any) bool { return kjson.UnmarshalCaseSensitivePreserveInts(object, into) == nil }
	const template = "/spec/template/spec"
	switch kind.APIVersion + "/" + kind.Kind {
	case "v1/Pod", "/Pod":
		var pod corev1.Pod
		ok := read(&pod)
		return fieldsOf("/spec", &pod.Spec), ok
	case "apps/v1/Deployment":
		var workload appsv1.Deployment
		ok := read(&workload)
		return fieldsOf(template, &workload.Spec.Template.Spec), ok
	case "apps/v1/StatefulSet":
		var workload appsv1.StatefulSet
		ok := read(&workload)
		return fieldsOf(template, &workload.Spec.Template.Spec), ok
	case "apps/v1/DaemonSet":
		var workload appsv1.DaemonSet
		ok := read(&workload)
		return fieldsOf(template, &workload.Spec.Template.Spec), ok
	case "batch/v1/Job":
		var workload batchv1.Job
		ok := read(&workload)
		return fieldsOf(template, &workload.Spec.Template.Spec), ok
	case "batch/v1/CronJob":
		var workload batchv1.CronJob
		ok := read(&workload)
		return fieldsOf("/spec/jobTemplate"+template, &workload.Spec.JobTemplate.Spec.Template.Spec), ok
	}
	return customFields(object)
}

func fieldsOf(at string, spec *corev1.PodSpec) []Field {
	var fields []Field
	for i, container := range spec.InitContainers {
		fields = append(fields, Field{fmt.Sprintf("%s/initContainers/%d/image", at, i), container.Image})
	}
	for i, container := range spec.Containers {
		fields = append(fields, Field{fmt.Sprintf("%s/containers/%d/image", at, i), container.Image})
	}
	for i, container := range spec.EphemeralContainers {
		fields = append(fields, Field{fmt.Sprintf("%s/ephemeralContainers/%d/image", at, i), container.Image})
	}
	for i, volume := range spec.Volumes {
		if volume.Image != nil {
			fields = append(fields, Field{fmt.Sprintf("%s/volumes/%d/image/reference", at, i), volume.Image.Reference})
		}
	}
	return fields
}

// customFields walks a whole object.
func customFields(object []byte) (fields []Field, ok bool) {
	var document map[string]any
	if kjson.UnmarshalCaseSensitivePreserveInts(object, &document) != nil {
		return nil, false
	}
	delete(document, "metadata")
	delete(document, "status")
	walk("", document, func(pointer, image string) { fields = append(fields, Field{pointer, image}) })
	return fields, true
}

// walk finds, in every object whose name is spec, the images of its containers and volumes.
func walk(at string, value any, found func(pointer, image string)) {
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			below := at + "/" + escaped(name)
			if spec, ok := member.(map[string]any); ok && name == "spec" {
				imagesIn(below, spec, found)
			}
			walk(below, member, found)
		}
	case []any:
		for i, element := range v {
			walk(fmt.Sprintf("%s/%d", at, i), element, found)
		}
	}
}

func imagesIn(at string, spec map[string]any, found func(pointer, image string)) {
	for _, group := range []string{"initContainers", "containers", "ephemeralContainers"} {
		list, _ := spec[group].([]any)
		for i, element := range list {
			container, _ := element.(map[string]any)
			if image, ok := container["image"].(string); ok {
				found(fmt.Sprintf("%s/%s/%d/image", at, group, i), image)
			}
		}
	}
	volumes, _ := spec["volumes"].([]any)
	for i, element := range volumes {
		volume, _ := element.(map[string]any)
		source, _ := volume["image"].(map[string]any)
		if reference, ok := source["reference"].(string); ok {
			found(fmt.Sprintf("%s/volumes/%d/image/reference", at, i), reference)
		}
	}
}

func escaped(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}
