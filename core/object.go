package core

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// imagesOfObject finds the image fields of a Kubernetes object: those of every pod spec in it at whatever depth and
// under whatever name, which is where Pods, workloads, CronJobs, lists and custom workloads have theirs.
func imagesOfObject(object value) ([]Image, error) {
	found := searched(object)
	switch {
	case found.err != nil:
		return nil, found.err
	case len(found.specs) == 0:
		return nil, invalid("object", "has no pod spec and no pod template; send a Pod or a workload, or limit the policy's match to them")
	}
	var images []Image
	for _, spec := range found.specs {
		var err error
		if images, err = spec.images(images); err != nil {
			return nil, err
		}
		if len(images) > maxImages {
			return nil, invalid("object", "has over %d images", maxImages)
		}
	}
	if len(images) == 0 {
		return nil, invalid("object", "has a pod spec without containers; send the object as it is admitted")
	}
	return images, nil
}

// HasPodSpec tells whether images are looked for in an object. One that is over a bound has them looked for, and is refused
// then.
func HasPodSpec(object map[string]any) bool {
	text, err := json.Marshal(object)
	if err != nil {
		return true
	}
	root, valid, _ := readDocument(text)
	if !valid {
		return true
	}
	found := searched(root)
	return found.err != nil || len(found.specs) > 0
}

func searched(object value) search {
	var found search
	var room [usualDepth]step
	found.podSpecs(object, room[:0])
	return found
}

// usualDepth is above that of the objects of Kubernetes.
const usualDepth = 16

// podSpec is a pod spec inside an object.
type podSpec struct {
	pointer image.Pointer
	fields  value
}

// search is the result of a walk through an object.
type search struct {
	specs []podSpec
	err   error // of a pod spec that cannot be taken in, so that none is overlooked; nil when all were
}

// step leads from an object to a member, or from a list to an element.
type step struct {
	member  value
	element int // its index; -1 for a member of an object
}

// podSpecs walks a value to its end: a pod spec may stand beside another, or in one, and a custom resource may well run
// both. It is known by its fields, whatever name it has. path leads to the value; a pointer is made of it only where a pod
// spec is found.
func (s *search) podSpecs(v value, path []step) {
	if v.kind() == '[' {
		for i, element := range v.all() {
			if element.nests() {
				s.podSpecs(element, append(path, step{element, i}))
			}
		}
		return
	}
	var room [8]value
	nesting := room[:0]
	for _, member := range v.all() {
		if member.nests() {
			nesting = append(nesting, member)
		}
	}
	slices.SortFunc(nesting, func(a, b value) int { return bytes.Compare(a.name(), b.name()) })
	if isPodSpec(nesting) {
		s.add(v, path)
	}
	for _, member := range nesting {
		if s.err == nil && inOtherCase(member, containerGroups()...) {
			s.err = invalid("object", "has a field %q, which some would read as another in other case; spell it as Kubernetes does", member.name())
		}
	}
	for _, member := range nesting {
		if runs := len(path) > 0 || string(member.name()) != "metadata" && string(member.name()) != "status"; runs { // nothing runs what the object itself has there
			s.podSpecs(member, append(path, step{member, -1}))
		}
	}
}

// add adds the pod spec that a path leads to.
func (s *search) add(spec value, path []step) {
	var at image.Pointer
	for _, step := range path {
		if step.element >= 0 {
			at = at.Index(step.element)
		} else {
			at = at.Field(string(step.member.name()))
		}
		if len(at) > maxPointer {
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

// containerGroups are the lists of containers in a pod spec (Kubernetes API, core/v1 PodSpec).
func containerGroups() []string {
	return []string{"initContainers", "containers", "ephemeralContainers"}
}

// isPodSpec tells a pod spec by its containers, or by an image volume where it has none. Of its members only the lists and
// objects are needed. Containers that are an object are no pod spec's, and are refused when they are read.
func isPodSpec(nesting []value) bool {
	for _, member := range nesting {
		switch name := string(member.name()); {
		case slices.Contains(containerGroups(), name):
			return true
		case name != "volumes" || member.kind() != '[':
			continue
		}
		for _, volume := range member.all() {
			if source, ok := volume.member("image"); ok && source.nests() {
				return true
			}
		}
	}
	return false
}

// inOtherCase tells whether a member is a field of Kubernetes but for its case. Kubernetes reads such a member as another
// field, but much that is written in Go does not.
func inOtherCase(member value, fields ...string) bool {
	name := member.name()
	for _, field := range fields {
		if len(name) >= len(field) && string(name) != field && strings.EqualFold(string(name), field) { // no letter folds to a longer ASCII one
			return true
		}
	}
	return false
}

// firstInOtherCase gives the first member of an object, in the order of names, that is a field but for its case.
func firstInOtherCase(object value, field string) (first value, found bool) {
	for _, member := range object.all() {
		if inOtherCase(member, field) && (!found || bytes.Compare(member.name(), first.name()) < 0) {
			first, found = member, true
		}
	}
	return first, found
}

// images appends the image fields of a pod spec: containers of all three groups, then image volumes
// (Kubernetes API, core/v1 PodSpec and ImageVolumeSource). It ends at one more than may be.
func (s podSpec) images(images []Image) ([]Image, error) {
	most := len(images) + maxImages
	for _, group := range containerGroups() {
		list, err := s.list(group)
		if err != nil {
			return nil, err
		}
		for i, container := range list.all() {
			image, err := imageAt(kindOfGroup(group), container, container, s.pointer+image.Pointer("/"+group+"/"+strconv.Itoa(i)+"/image"))
			if err != nil {
				return nil, err
			}
			if images = append(images, image); len(images) > most {
				return images, nil
			}
		}
	}
	return s.imageVolumes(images)
}

// list finds a list of objects; an empty one where the field is missing or null.
func (s podSpec) list(name string) (value, error) {
	list, ok := s.fields.member(name)
	if !ok || list.kind() == 'n' {
		return value{}, nil
	}
	if list.kind() != '[' {
		return value{}, invalid(objectField(s.pointer.Field(name)), "is not a list")
	}
	for i, element := range list.all() {
		if element.kind() != '{' {
			return value{}, invalid(objectField(s.pointer.Field(name).Index(i)), "is not an object")
		}
	}
	return list, nil
}

func (s podSpec) imageVolumes(images []Image) ([]Image, error) {
	if other, found := firstInOtherCase(s.fields, "volumes"); found {
		return nil, invalid(objectField(s.pointer.Field(string(other.name()))), "would be read by some as volumes; spell it as Kubernetes does")
	}
	volumes, err := s.list("volumes")
	if err != nil {
		return nil, err
	}
	most := len(images) + maxImages
	for i, volume := range volumes.all() {
		if other, found := firstInOtherCase(volume, "image"); found {
			return nil, invalid(objectField(s.pointer.Field("volumes").Index(i).Field(string(other.name()))), "would be read by some as image; spell it as Kubernetes does")
		}
		source, ok := volume.member("image")
		if !ok || source.kind() == 'n' {
			continue
		}
		at := s.pointer.Field("volumes").Index(i).Field("image")
		if source.kind() != '{' {
			return nil, invalid(objectField(at), "is not an object")
		}
		image, err := imageAt("image volume", volume, source, at.Field("reference"))
		if err != nil {
			return nil, err
		}
		if images = append(images, image); len(images) > most {
			break // which the caller refuses
		}
	}
	return images, nil
}

// imageAt reads the image field that a pointer leads to, of a container or volume source, which holder names. An absent image
// is an error, because a webhook that runs later could fill it in unverified.
func imageAt(kind string, holder, source value, pointer image.Pointer) (Image, error) {
	slash := strings.LastIndexByte(string(pointer), '/')
	at, field := pointer[:slash], string(pointer[slash+1:])
	if other, found := firstInOtherCase(source, field); found {
		return Image{}, invalid(objectField(at.Field(string(other.name()))), "would be read by some as %s; spell it as Kubernetes does", field)
	}
	member, _ := source.member(field)
	written := member.string()
	if written == "" {
		return Image{}, invalid(objectField(pointer), "is not a name; every container and image volume must name its image")
	}
	ref, err := image.Parse(written)
	if err != nil {
		return Image{}, invalid(objectField(pointer), "%v", err)
	}
	member, _ = holder.member("name")
	name := member.string()
	if name == "" {
		name = string(pointer)
	}
	return Image{Kind: kind, Name: reason.Clip(name, reason.MaxName), Pointer: pointer, Written: written, Ref: ref}, nil
}

// objectField writes a pointer inside the object as the field of the request that it is.
func objectField(p image.Pointer) string { return "object" + strings.ReplaceAll(string(p), "/", ".") }
