package core

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/samber/lo"
)

// imagesOfObject finds the image fields of a Kubernetes object: a Pod's own, and those of every pod template in
// it at whatever depth, which is where workloads, CronJobs and custom workloads have theirs.
func imagesOfObject(object map[string]any) ([]Image, error) {
	specs, err := findPodSpecs(object)
	if err != nil {
		return nil, err
	}
	if len(specs) == 0 {
		return nil, invalid("object", "has no pod spec and no pod template; send a Pod or a workload, or limit the policy's match to them")
	}
	var images []Image
	for _, spec := range specs {
		found, err := spec.images()
		if err != nil {
			return nil, err
		}
		images = append(images, found...)
	}
	if len(images) == 0 {
		return nil, invalid("object", "has a pod spec without containers; send the object as it is admitted")
	}
	return images, nil
}

// podSpec is a pod spec inside an object.
type podSpec struct {
	pointer Pointer
	fields  map[string]any
}

// findPodSpecs finds the pod specs of an object. That none is overlooked, it fails where there are too many, or one is
// in a place that it would take too long to name.
func findPodSpecs(object map[string]any) ([]podSpec, error) {
	var found search
	if spec, ok := object["spec"].(map[string]any); ok && object["kind"] == "Pod" {
		found.specs = append(found.specs, podSpec{"/spec", spec})
	}
	for _, key := range sortedKeys(object) {
		if key != "metadata" && key != "status" {
			found.templates([]string{key}, object[key])
		}
	}
	return found.specs, found.err
}

// search is a walk through an object.
type search struct {
	specs []podSpec
	err   error // of a pod template that cannot be taken in; nil when all were
}

// templates walks a value to its end: a template may have another beside its spec, which a custom resource may well
// run. A pod template is known by its spec, whatever name it has. path has the keys and indices that lead to the value;
// a pointer is made of them only where a template is found.
func (s *search) templates(path []string, value any) {
	switch v := value.(type) {
	case map[string]any:
		if spec, ok := v["spec"].(map[string]any); ok && listsContainers(spec) {
			s.add(append(path, "spec"), spec)
		}
		for _, name := range sortedKeys(v) {
			if nests(v[name]) {
				s.templates(append(path, name), v[name])
			}
		}
	case []any:
		for i, element := range v {
			if nests(element) {
				s.templates(append(path, strconv.Itoa(i)), element)
			}
		}
	}
}

func (s *search) add(path []string, spec map[string]any) {
	var at Pointer
	for _, name := range path {
		if at = at.Field(name); len(at) > maxPointer {
			s.err = invalid("object", "has a pod template in a place whose pointer is over %d bytes", maxPointer)
			return
		}
	}
	if len(s.specs) == maxTemplates {
		s.err = invalid("object", "has over %d pod templates", maxTemplates)
		return
	}
	s.specs = append(s.specs, podSpec{at, spec})
}

// nests tells a value that may hold a template from the many that cannot.
func nests(value any) bool {
	switch value.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

// containerGroups are the lists of containers in a pod spec (Kubernetes API, core/v1 PodSpec).
func containerGroups() []string {
	return []string{"initContainers", "containers", "ephemeralContainers"}
}

// listsContainers tells a pod spec from other specs.
func listsContainers(spec map[string]any) bool {
	return slices.ContainsFunc(containerGroups(), func(group string) bool {
		_, ok := spec[group].([]any)
		return ok
	})
}

// images lists the image fields of a pod spec: containers of all three groups, then image volumes
// (Kubernetes API, core/v1 PodSpec and ImageVolumeSource).
func (s podSpec) images() ([]Image, error) {
	var images []Image
	for _, group := range containerGroups() {
		list, err := s.list(group)
		if err != nil {
			return nil, err
		}
		for i, element := range list {
			at := s.pointer.Field(group).Index(i)
			image, err := imageAt(kindOfGroup(group), element, "image", at)
			if err != nil {
				return nil, err
			}
			images = append(images, image)
		}
	}
	volumes, err := s.imageVolumes()
	return append(images, volumes...), err
}

func (s podSpec) list(name string) ([]map[string]any, error) {
	value, ok := s.fields[name]
	if !ok || value == nil {
		return nil, nil
	}
	elements, ok := value.([]any)
	if !ok {
		return nil, invalid(objectField(s.pointer.Field(name)), "is not a list")
	}
	list := make([]map[string]any, len(elements))
	for i, element := range elements {
		if list[i], ok = element.(map[string]any); !ok {
			return nil, invalid(objectField(s.pointer.Field(name).Index(i)), "is not an object")
		}
	}
	return list, nil
}

func (s podSpec) imageVolumes() ([]Image, error) {
	volumes, err := s.list("volumes")
	if err != nil {
		return nil, err
	}
	var images []Image
	for i, volume := range volumes {
		source, ok := volume["image"].(map[string]any)
		if !ok {
			continue
		}
		at := s.pointer.Field("volumes").Index(i).Field("image")
		image, err := imageAt("image volume", lo.Assign(source, map[string]any{"name": volume["name"]}), "reference", at)
		if err != nil {
			return nil, err
		}
		images = append(images, image)
	}
	return images, nil
}

// imageAt reads the image field of a container or volume source. An absent image is an error, because a
// webhook that runs later could fill it in unverified.
func imageAt(kind string, holder map[string]any, field string, at Pointer) (Image, error) {
	pointer := at.Field(field)
	written, ok := holder[field].(string)
	if !ok || written == "" {
		return Image{}, invalid(objectField(pointer), "is not a name; every container and image volume must name its image")
	}
	ref, err := ParseReference(written)
	if err != nil {
		return Image{}, invalid(objectField(pointer), "%v", err)
	}
	name, _ := holder["name"].(string)
	if name == "" {
		name = fmt.Sprint(pointer)
	}
	return Image{Kind: kind, Name: name, Pointer: pointer, Written: written, Ref: ref}, nil
}

// objectField writes a pointer inside the object as the field of the request that it is.
func objectField(p Pointer) string { return "object" + strings.ReplaceAll(string(p), "/", ".") }
