package core

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// imagesOfObject finds the image fields of a Kubernetes object: those of every pod spec in it, at any depth and under any
// name. That covers Pods, workloads, CronJobs, lists and custom workloads.
func imagesOfObject(object map[string]any) ([]Image, error) {
	found := searched(object)
	switch {
	case found.err != nil:
		return nil, found.err
	case len(found.specs) == 0:
		return nil, invalid("object", "has no pod spec and no pod template; send a Pod or a workload, or limit the policy's match to them")
	}
	var images []Image
	for _, spec := range found.specs {
		more, err := spec.images()
		if err != nil {
			return nil, err
		}
		if images = append(images, more...); len(images) > maxImages {
			return nil, invalid("object", "has over %d images", maxImages)
		}
	}
	if len(images) == 0 {
		return nil, invalid("object", "has a pod spec without containers; send the object as it is admitted")
	}
	return images, nil
}

// HasPodSpec tells whether an object has a pod spec, or something that could be one and is refused.
func HasPodSpec(object map[string]any) bool {
	found := searched(object)
	return found.err != nil || len(found.specs) > 0
}

func searched(object map[string]any) (found search) {
	found.podSpecs(nil, object)
	return found
}

// podSpec is a pod spec inside an object.
type podSpec struct {
	pointer image.Pointer
	fields  map[string]any
}

// search is a walk through an object.
type search struct {
	specs []podSpec
	err   error // why the walk stopped, so that no pod spec is overlooked; nil when it did not
}

// podSpecs collects every pod spec in a value. A pod spec is recognised by its fields, whatever its name, and may stand
// beside another one or inside of it, since a custom resource may run both. path has the keys and indices that lead to the
// value; a pointer is made of them only where a pod spec is found.
func (s *search) podSpecs(path []string, value any) {
	switch v := value.(type) {
	case map[string]any:
		if isPodSpec(v) {
			s.add(path, v)
		}
		if other := inOtherCase(v, containerGroups()...); s.err == nil && other != "" && nests(v[other]) {
			s.err = invalid("object", "has a field %q, which some would read as another in other case; spell it as Kubernetes does", other)
		}
		var names []string
		for name, member := range v {
			if runs := len(path) > 0 || name != "metadata" && name != "status"; runs && nests(member) { // nothing runs pods from the object's own metadata and status
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			s.podSpecs(append(path, name), v[name])
		}
	case []any:
		for i, element := range v {
			if nests(element) {
				s.podSpecs(append(path, strconv.Itoa(i)), element)
			}
		}
	}
}

func (s *search) add(path []string, spec map[string]any) {
	var at image.Pointer
	for _, name := range path {
		if at = at.Field(name); len(at) > maxPointer {
			s.err = invalid("object", "has a pod spec in a place whose pointer is over %d bytes", maxPointer)
			return
		}
	}
	if len(s.specs) == maxSpecs {
		s.err = invalid("object", "has over %d pod specs", maxSpecs)
		return
	}
	s.specs = append(s.specs, podSpec{at, spec})
}

// nests tells whether a value may hold others.
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

// isPodSpec recognises a pod spec by its containers, or by an image volume. A value whose containers are an object counts
// too, and is refused when it is read.
func isPodSpec(fields map[string]any) bool {
	if slices.ContainsFunc(containerGroups(), func(group string) bool { return nests(fields[group]) }) {
		return true
	}
	volumes, _ := fields["volumes"].([]any)
	return slices.ContainsFunc(volumes, func(volume any) bool {
		source, _ := volume.(map[string]any)
		return nests(source["image"])
	})
}

// inOtherCase gives a key that equals a field of Kubernetes except for its case; "" where there is none. Kubernetes ignores
// such a key, but many programs in Go read it as the field.
func inOtherCase(fields map[string]any, names ...string) string {
	first := ""
	for key := range fields {
		other := slices.ContainsFunc(names, func(name string) bool { return key != name && strings.EqualFold(key, name) })
		if other && (first == "" || key < first) {
			first = key
		}
	}
	return first
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
			if images = append(images, image); len(images) > maxImages {
				return images, nil // which the caller refuses
			}
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
	if other := inOtherCase(s.fields, "volumes"); other != "" {
		return nil, invalid(objectField(s.pointer.Field(other)), "would be read by some as volumes; spell it as Kubernetes does")
	}
	volumes, err := s.list("volumes")
	if err != nil {
		return nil, err
	}
	var images []Image
	for i, volume := range volumes {
		at := s.pointer.Field("volumes").Index(i).Field("image")
		source, ok := volume["image"].(map[string]any)
		other := inOtherCase(volume, "image")
		switch {
		case other != "":
			return nil, invalid(objectField(s.pointer.Field("volumes").Index(i).Field(other)), "would be read by some as image; spell it as Kubernetes does")
		case volume["image"] == nil:
			continue
		case !ok:
			return nil, invalid(objectField(at), "is not an object")
		}
		image, err := imageAt("image volume", lo.Assign(source, map[string]any{"name": volume["name"]}), "reference", at)
		if err != nil {
			return nil, err
		}
		if images = append(images, image); len(images) > maxImages {
			break // which the caller of the caller refuses
		}
	}
	return images, nil
}

// imageAt reads the image field of a container or volume source. An absent image is an error, because a
// webhook that runs later could fill it in unverified.
func imageAt(kind string, holder map[string]any, field string, at image.Pointer) (Image, error) {
	pointer := at.Field(field)
	if other := inOtherCase(holder, field); other != "" {
		return Image{}, invalid(objectField(at.Field(other)), "would be read by some as %s; spell it as Kubernetes does", field)
	}
	written, ok := holder[field].(string)
	if !ok || written == "" {
		return Image{}, invalid(objectField(pointer), "is not a name; every container and image volume must name its image")
	}
	ref, err := image.Parse(written)
	if err != nil {
		return Image{}, invalid(objectField(pointer), "%v", err)
	}
	name, _ := holder["name"].(string)
	if name == "" {
		name = fmt.Sprint(pointer)
	}
	return Image{Kind: kind, Name: reason.Clip(name, reason.MaxName), Pointer: pointer, Written: written, Ref: ref}, nil
}

// objectField writes a pointer inside the object as the field of the request that it is.
func objectField(p image.Pointer) string { return "object" + strings.ReplaceAll(string(p), "/", ".") }
