package core

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/samber/lo"
	kjson "sigs.k8s.io/json"

	"github.com/nirmata/kyverno-notation-venafi/core/condition"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// Request is a parsed body of POST /checkimages or /verify.
type Request struct {
	Images          []Image           // ordered by Pointer; each Pointer once
	TrustPolicy     string            // "" when the request names none
	ImageReferences []string          // wildcard patterns; empty selects every image
	Attestations    []AttestationRule // what the images must carry beside a signature
	RequireDigest   bool              // deny an image that would be verified and is not named by digest
	Platforms       image.Platforms   // whose manifests must be signed beside their index, with those of the statement; the zero value for none
	Object          Object            // whose images they are; zero where the request does not say
	Admission       Admission         // zero where the request does not say
}

// Object names the object under admission, as the request says. Nothing is decided by it.
type Object struct {
	Kind      string `json:"kind,omitzero"`
	Namespace string `json:"namespace,omitzero"`
	Name      string `json:"name,omitzero"`      // or what its name will begin with, and "*"
	Operation string `json:"operation,omitzero"` // CREATE, UPDATE, DELETE or CONNECT; "" where the request does not say
	Owner     Owner  `json:"-"`                  // its controller; zero for none
}

// String is the object in words, such as "Pod shop/web (CREATE)"; "" where nothing is known of it.
func (o Object) String() string {
	name := strings.TrimSpace(o.Kind + " " + strings.Trim(o.Namespace+"/"+o.Name, "/"))
	if o.Operation == "" {
		return name
	}
	return strings.TrimSpace(name + " (" + o.Operation + ")")
}

// Admission is what the policy says of the request that is admitted: the same in fewer bytes than an object's metadata.
// Nothing is decided by it.
type Admission struct {
	Operation string `json:"operation"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// Named is the object, with what the policy says of it where the object itself does not.
func (r Request) Named() Object {
	named := r.Object
	named.Operation = r.Admission.Operation
	named.Namespace = cmp.Or(named.Namespace, r.Admission.Namespace)
	named.Name = cmp.Or(named.Name, r.Admission.Name)
	return named
}

// Image is an image field of the resource under admission.
type Image struct {
	Kind    string          `json:"kind"`    // "container", "init container", "ephemeral container", "image volume", or a custom group's name
	Name    string          `json:"name"`    // of the container or volume
	Pointer image.Pointer   `json:"path"`    // to the image field
	Written string          `json:"written"` // the image as the caller wrote it
	Ref     image.Reference `json:"reference"`
}

// pinned names the image by digest.
func (i Image) pinned(digest string) string {
	return i.Ref.PinnedAs(i.Written, digest)
}

// AttestationRule demands attestations of the images whose reference matches a wildcard pattern.
type AttestationRule struct {
	ImageReference string
	Types          []verification.AttestationType
}

// Weight is what stays of a request while it is worked on, bytes: its images and what is demanded of them.
func (r Request) Weight() int {
	const each = 200 // for what has no length of its own
	weight := lo.SumBy(r.ImageReferences, func(pattern string) int { return len(pattern) + each })
	for _, image := range r.Images {
		weight += each + len(image.Kind) + len(image.Name) + len(image.Pointer) + len(image.Written) + image.Ref.Len()
	}
	for _, rule := range r.Attestations {
		weight += each + len(rule.ImageReference)
		for _, demand := range rule.Types {
			weight += each + len(demand.Name)
			weight += demand.Conditions.Weight()
		}
	}
	return weight
}

// RequestError says which field of a request is wrong, and what to do.
type RequestError struct {
	Code  reason.Code // RequestInvalid, RequestTooLarge or a code that Plan gives
	Field string      // path of the field, "" for the body as a whole
	Text  string      // what is wrong and what to do, without the field
}

// Error is one sentence for the policy's author.
func (e *RequestError) Error() string {
	if e.Field == "" {
		return e.Text
	}
	return e.Field + ": " + e.Text
}

func invalid(field, format string, args ...any) error {
	return &RequestError{Code: reason.RequestInvalid, Field: reason.Clip(field, 2*reason.MaxWords), Text: reason.Clip(fmt.Sprintf(format, args...), 2*reason.MaxWords)}
}

// body is the wire form of a request. Metadata and Insecure come from policies written for older services:
// they are accepted, and nothing reads them.
type body struct {
	Images          *map[string]map[string]imageInfo `json:"images"`
	Object          map[string]any                   `json:"object"`
	EncodedObject   *string                          `json:"encodedObject"`
	ImageReferences []string                         `json:"imageReferences"`
	TrustPolicy     *string                          `json:"trustPolicy"`
	Attestations    []attestation                    `json:"attestations"`
	RequireDigest   bool                             `json:"requireDigest"`
	Admission       Admission                        `json:"admission"`
	Platforms       []string                         `json:"platforms"`
	Metadata        any                              `json:"metadata"`
	Insecure        any                              `json:"insecure"`

	object value // Object, as it stands in the body; none where the field is missing
}

type attestation struct {
	ImageReference string                         `json:"imageReference"`
	Type           []verification.AttestationType `json:"type"`
}

// imageInfo is an entry of Kyverno's {{images}} variable.
type imageInfo struct {
	Registry         string `json:"registry"`
	Name             string `json:"name"`
	Path             string `json:"path"`
	Tag              string `json:"tag"`
	Digest           string `json:"digest"`
	Reference        string `json:"reference"`
	ReferenceWithTag string `json:"referenceWithTag"`
	JSONPointer      string `json:"jsonPointer"`
}

// ParseRequest reads a request's body. It refuses what it does not understand, unknown and doubled fields
// included, with a [*RequestError]: a typo must not switch a check off.
func ParseRequest(data []byte) (Request, error) {
	if !utf8.Valid(data) {
		return Request{}, invalid("", "the body is not UTF-8")
	}
	root, valid, plain := readDocument(data)
	if valid && plain {
		if b, ok := plainBody(root); ok {
			return b.request()
		}
	}
	b, err := strictBody(data)
	if err != nil {
		return Request{}, err
	}
	if !valid {
		return Request{}, invalid("", "the body is not a JSON object")
	}
	b.Object = nil // the same is read from the document
	b.object, _ = root.member("object")
	return b.request()
}

// plainBody reads the fields of a body in which nothing calls for a closer look. It gives false for all others, and leaves
// it to strictBody to say what is wrong with them, if anything is.
func plainBody(root value) (b body, ok bool) {
	for _, field := range root.all() {
		switch string(field.name()) {
		case "object":
			b.object, ok = field, field.kind() == '{'
		case "images":
			b.Images, ok = plainImages(field)
		case "trustPolicy":
			b.TrustPolicy, ok = lo.ToPtr(field.string()), field.kind() == '"'
		case "encodedObject":
			b.EncodedObject, ok = lo.ToPtr(field.string()), field.kind() == '"'
		case "imageReferences":
			b.ImageReferences, ok = plainTexts(field)
		case "attestations":
			b.Attestations, ok = plainAttestations(field)
		case "requireDigest":
			b.RequireDigest, ok = field.kind() == 't', field.kind() == 't' || field.kind() == 'f'
		case "admission":
			b.Admission, ok = plainAdmission(field)
		case "platforms":
			b.Platforms, ok = plainTexts(field)
		case "metadata", "insecure":
			ok = true
		default:
			ok = false
		}
		if !ok {
			return body{}, false
		}
	}
	return b, root.kind() == '{'
}

func plainAttestations(list value) (attestations []attestation, ok bool) {
	if bytes.Contains(list.raw(), []byte("null")) {
		return nil, false
	}
	strict, err := kjson.UnmarshalStrict(list.raw(), &attestations)
	return attestations, err == nil && len(strict) == 0
}

func plainAdmission(admission value) (a Admission, ok bool) {
	into := map[string]*string{"operation": &a.Operation, "namespace": &a.Namespace, "name": &a.Name}
	return a, plainFields(admission, into)
}

func plainTexts(list value) (texts []string, ok bool) {
	texts = []string{}
	for _, element := range list.all() {
		if element.kind() != '"' {
			return nil, false
		}
		texts = append(texts, element.string())
	}
	return texts, list.kind() == '['
}

func plainImages(groups value) (images *map[string]map[string]imageInfo, ok bool) {
	all := map[string]map[string]imageInfo{}
	for _, group := range groups.all() {
		entries := map[string]imageInfo{}
		for _, entry := range group.all() {
			info, ok := plainImage(entry)
			if !ok {
				return nil, false
			}
			entries[string(entry.name())] = info
		}
		if group.kind() != '{' {
			return nil, false
		}
		all[string(group.name())] = entries
	}
	return &all, groups.kind() == '{'
}

func plainImage(entry value) (info imageInfo, ok bool) {
	fields := map[string]*string{
		"registry": &info.Registry, "name": &info.Name, "path": &info.Path, "tag": &info.Tag, "digest": &info.Digest,
		"reference": &info.Reference, "referenceWithTag": &info.ReferenceWithTag, "jsonPointer": &info.JSONPointer,
	}
	return info, plainFields(entry, fields)
}

// plainFields reads an object that has no other fields than these, which are texts.
func plainFields(object value, into map[string]*string) bool {
	for _, field := range object.all() {
		text, known := into[string(field.name())]
		if !known || field.kind() != '"' {
			return false
		}
		*text = field.string()
	}
	return object.kind() == '{'
}

// strictBody decodes a body, or says what is wrong with it.
func strictBody(data []byte) (b body, err error) {
	if err := boundShape(data); err != nil {
		return body{}, err
	}
	strict, err := kjson.UnmarshalStrict(data, &b)
	if err != nil {
		return body{}, syntaxError(err)
	}
	if len(strict) > 0 {
		return body{}, strictError(strict[0])
	}
	if err := singleDocument(data); err != nil {
		return body{}, err
	}
	return b, refuseNulls(data)
}

// refuseNulls refuses a null for a field of the request, and anywhere in attestations but in a condition's key and
// value: a list whose entries were left out is null in YAML, and must not switch a check off.
func refuseNulls(data []byte) error {
	if !bytes.Contains(data, []byte("null")) {
		return nil // and no need to decode it again
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return syntaxError(err)
	}
	for _, name := range sortedKeys(fields) {
		if string(fields[name]) == "null" && name != "metadata" && name != "insecure" {
			return refuseNull(name, nil)
		}
	}
	raw, ok := fields["attestations"]
	if !ok {
		return nil
	}
	var demands any
	if err := json.Unmarshal(raw, &demands); err != nil {
		return syntaxError(err)
	}
	return refuseNull("attestations", demands)
}

func refuseNull(field string, value any) error {
	switch v := value.(type) {
	case nil:
		return invalid(field, "is null; fill it in or leave it out")
	case []any:
		for i, element := range v {
			if err := refuseNull(fmt.Sprintf("%s[%d]", field, i), element); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, name := range sortedKeys(v) {
			if name == "key" || name == "value" {
				continue
			}
			if err := refuseNull(field+"."+name, v[name]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b body) request() (Request, error) {
	name := lo.FromPtr(b.TrustPolicy)
	if name == "" && b.TrustPolicy != nil {
		return Request{}, invalid("trustPolicy", "is empty; name a trust policy, or leave the field out for the service's default")
	}
	if err := boundName("trustPolicy", name); err != nil {
		return Request{}, err
	}
	images, object, err := b.images()
	if err != nil {
		return Request{}, err
	}
	reader := image.NewPatterns()
	selecting, err := parsePatterns(b.ImageReferences, reader)
	if err != nil {
		return Request{}, err
	}
	rules, err := parseAttestations(b.Attestations, reader)
	if err != nil {
		return Request{}, err
	}
	admission, err := b.Admission.read()
	if err != nil {
		return Request{}, err
	}
	platforms, err := b.platforms()
	if err != nil {
		return Request{}, err
	}
	return Request{
		Images:          images,
		TrustPolicy:     name,
		ImageReferences: selecting,
		Attestations:    rules,
		RequireDigest:   b.RequireDigest,
		Platforms:       platforms,
		Object:          object,
		Admission:       admission,
	}, nil
}

// read checks the operation, and clips what is only told.
func (a Admission) read() (Admission, error) {
	switch a.Operation {
	case "", "CREATE", "UPDATE", "DELETE", "CONNECT": // Kyverno has none where no request is admitted
	default:
		return Admission{}, invalid("admission.operation", "is %q; write request.operation there, which is CREATE, UPDATE, DELETE or CONNECT", reason.Clip(a.Operation, reason.MaxName))
	}
	a.Namespace, a.Name = reason.Clip(a.Namespace, reason.MaxName), reason.Clip(a.Name, reason.MaxName)
	return a, nil
}

// platforms reads the choice of platforms. An empty list may be one whose entries were left out, and must not switch a check off.
func (b body) platforms() (image.Platforms, error) {
	if b.Platforms != nil && len(b.Platforms) == 0 {
		return image.Platforms{}, invalid("platforms", `is empty; name platforms, all or index, or leave the field out`)
	}
	if len(b.Platforms) > maxPlatforms {
		return image.Platforms{}, invalid("platforms", "lists %d; at most %d are read", len(b.Platforms), maxPlatforms)
	}
	platforms, err := image.ReadPlatforms(b.Platforms)
	if err != nil {
		return image.Platforms{}, invalid("platforms", "%v", err)
	}
	return platforms, nil
}

func (b body) images() (images []Image, object Object, err error) {
	hasObject := b.object.document != nil
	switch {
	case b.Images != nil && hasObject:
		return nil, Object{}, invalid("object", "stands beside images; send one of the two")
	case b.EncodedObject != nil && (b.Images != nil || hasObject):
		return nil, Object{}, invalid("encodedObject", "stands beside images or object; send one of them")
	case b.EncodedObject != nil:
		var decoded value
		if decoded, err = decodeObject(*b.EncodedObject); err == nil {
			images, err = imagesOfObject(decoded)
			object = named(decoded)
		}
	case b.Images != nil:
		images, err = imagesOfInfo(*b.Images)
	case hasObject:
		images, err = imagesOfObject(b.object)
		object = named(b.object)
	default:
		return nil, Object{}, invalid("images", "is missing; send object, or in a ClusterPolicy encodedObject ({{ base64_encode(to_string(request.object)) }})")
	}
	if err != nil {
		return nil, Object{}, err
	}
	if len(images) == 0 {
		return nil, Object{}, invalid("images", "names no image; send {{ images }} of an object that has containers, or limit the policy's match to such objects")
	}
	slices.SortFunc(images, func(a, b Image) int { return a.Pointer.Compare(b.Pointer) })
	for i := 1; i < len(images); i++ {
		if images[i].Pointer == images[i-1].Pointer {
			return nil, Object{}, invalid("images", "names the field %s twice", images[i].Pointer)
		}
	}
	return images, object, nil
}

// named gives the names of an object, clipped. One that the API server is to name has the beginning of its name.
func named(object value) Object {
	text := func(of value, name string) string {
		field, _ := of.member(name)
		return reason.Clip(field.string(), reason.MaxName)
	}
	o := Object{Kind: text(object, "kind")}
	if metadata, ok := object.member("metadata"); ok {
		o.Namespace, o.Name = text(metadata, "namespace"), text(metadata, "name")
		if beginning := text(metadata, "generateName"); o.Name == "" && beginning != "" {
			o.Name = beginning + "*"
		}
		if owners, ok := metadata.member("ownerReferences"); ok && owners.kind() == '[' {
			for _, owner := range owners.all() {
				if controls, ok := owner.member("controller"); ok && string(controls.raw()) == "true" {
					o.Owner = Owner{APIVersion: text(owner, "apiVersion"), Kind: text(owner, "kind"), Name: text(owner, "name"), UID: text(owner, "uid")}
					break
				}
			}
		}
	}
	return o
}

// decodeObject reads an object that is sent as the base64 of its JSON, as strictly as the body. Kyverno evaluates the
// expressions that it finds in what a ClusterPolicy sends; a stranger's object must not bring its own.
func decodeObject(encoded string) (value, error) {
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || !utf8.Valid(data) || singleDocument(data) != nil {
		return value{}, invalid("encodedObject", "is not the base64 of a JSON object; send {{ base64_encode(to_string(request.object)) }}")
	}
	object, valid, plain := readDocument(data)
	if valid && plain {
		return object, nil
	}
	if err := boundShape(data); err != nil {
		return value{}, err
	}
	var decoded any // a map by itself is decoded at half the speed
	strict, err := kjson.UnmarshalStrict(data, &decoded)
	if err != nil || len(strict) > 0 || !valid {
		return value{}, invalid("encodedObject", "holds JSON that is not understood: %v", cmp.Or(err, errors.Join(strict...)))
	}
	return object, nil
}

func imagesOfInfo(groups map[string]map[string]imageInfo) ([]Image, error) {
	var images []Image
	for _, group := range sortedKeys(groups) {
		switch {
		case len(group) > reason.MaxName:
			return nil, invalid("images", "has a group with a name of over %d bytes", reason.MaxName)
		case group == "":
			return nil, invalid("images", "has a group with an empty name")
		case groups[group] == nil:
			return nil, invalid("images."+group, "is null; fill it in or leave it out")
		}
		for _, name := range sortedKeys(groups[group]) {
			field := "images." + group + "." + name
			if name == "" {
				return nil, invalid("images."+group, "has a container with an empty name")
			}
			image, err := groups[group][name].image(field)
			if err != nil {
				return nil, err
			}
			image.Kind, image.Name = kindOfGroup(group), reason.Clip(name, reason.MaxName)
			if images = append(images, image); len(images) > maxImages {
				return nil, invalid("images", "names over %d images", maxImages)
			}
		}
	}
	return images, nil
}

// image believes the reference and checks that the other fields do not contradict it.
func (info imageInfo) image(field string) (Image, error) {
	written, from := info.Reference, ".reference"
	if written == "" {
		if info.Path == "" {
			return Image{}, invalid(field+from, "is empty; send the image's reference, or registry, path and tag or digest")
		}
		written, from = info.assembled(), ".path"
	}
	ref, err := image.Parse(written)
	if err != nil {
		return Image{}, invalid(field+from, "%v", err)
	}
	if _, name, _ := strings.Cut(written, "/"); image.IsID(name) { // Kyverno puts a registry before all that has none
		return Image{}, invalid(field+from, "%q may be the ID of an image on a node, which cannot be verified; write the image's repository and tag or digest", written)
	}
	if err := info.contradicts(field, ref); err != nil {
		return Image{}, err
	}
	if ref.Tag == "" {
		ref.Tag = info.Tag
	}
	if info.JSONPointer == "" {
		return Image{}, invalid(field+".jsonPointer", "is empty; send the pointer to the image field")
	}
	if len(info.JSONPointer) > maxPointer {
		return Image{}, invalid(field+".jsonPointer", "is %d bytes; a pointer has at most %d", len(info.JSONPointer), maxPointer)
	}
	pointer, err := image.ParsePointer(info.JSONPointer)
	if err != nil {
		return Image{}, invalid(field+".jsonPointer", "%v", err)
	}
	return Image{Pointer: pointer, Written: written, Ref: ref}, nil
}

func (info imageInfo) assembled() string {
	name := info.Path
	if info.Registry != "" {
		name = info.Registry + "/" + name
	}
	if info.Tag != "" {
		name += ":" + info.Tag
	}
	if info.Digest != "" {
		name += "@" + info.Digest
	}
	return name
}

func (info imageInfo) contradicts(field string, ref image.Reference) error {
	if info.Path != "" {
		named, err := image.Parse(imageInfo{Registry: info.Registry, Path: info.Path}.assembled())
		if err != nil {
			return invalid(field+".path", "%v", err)
		}
		if named.Name() != ref.Name() {
			return invalid(field+".path", "says %s and reference says %s; send them as Kyverno does", named.Name(), ref.Name())
		}
	}
	if info.Digest != "" && info.Digest != ref.Digest {
		return invalid(field+".digest", "is not the digest in reference; send them as Kyverno does")
	}
	if info.Tag == "" {
		return nil
	}
	if tagged, err := image.Parse(ref.Name() + ":" + info.Tag); err != nil || tagged.Tag != info.Tag {
		return invalid(field+".tag", "is %q, which is not a tag", info.Tag)
	}
	if ref.Tag != "" && info.Tag != ref.Tag {
		return invalid(field+".tag", "is not the tag in reference; send them as Kyverno does")
	}
	return nil
}

func kindOfGroup(group string) string {
	switch group {
	case "containers":
		return "container"
	case "initContainers":
		return "init container"
	case "ephemeralContainers":
		return "ephemeral container"
	}
	return group
}

// parsePatterns gives the canonical form of the patterns of imageReferences.
func parsePatterns(written []string, reader *image.Patterns) ([]string, error) {
	if len(written) > maxPatterns {
		return nil, invalid("imageReferences", "lists %d patterns; at most %d are read", len(written), maxPatterns)
	}
	var canonical []string
	for i, pattern := range written {
		parsed, err := reader.Parse(pattern)
		if err != nil {
			return nil, invalid(fmt.Sprintf("imageReferences[%d]", i), "%v", err)
		}
		canonical = append(canonical, parsed)
	}
	return canonical, nil
}

// ParseAttestations reads a list as it stands in the field attestations of a request, and refuses what [ParseRequest] does.
func ParseAttestations(list []byte) ([]AttestationRule, error) {
	if !utf8.Valid(list) || !json.Valid(list) {
		return nil, invalid("attestations", "is not JSON in UTF-8")
	}
	b, err := strictBody(slices.Concat([]byte(`{"attestations":`), list, []byte("}")))
	if err != nil {
		return nil, err
	}
	return parseAttestations(b.Attestations, image.NewPatterns())
}

func parseAttestations(entries []attestation, reader *image.Patterns) ([]AttestationRule, error) {
	var rules []AttestationRule
	count := 0
	for i, entry := range entries {
		field := fmt.Sprintf("attestations[%d]", i)
		pattern, err := reader.Parse(entry.ImageReference)
		if err != nil {
			return nil, invalid(field+".imageReference", "%v", err)
		}
		if len(entry.Type) == 0 {
			return nil, invalid(field+".type", "is empty; list the attestation types that the image must carry")
		}
		if count += len(entry.Type); count > maxTypes {
			return nil, invalid(field+".type", "brings the request's attestation types to over %d; demand fewer of one image", maxTypes)
		}
		types := slices.Clone(entry.Type)
		for j := range types {
			if err := normalise(&types[j], fmt.Sprintf("%s.type[%d]", field, j)); err != nil {
				return nil, err
			}
		}
		rules = append(rules, AttestationRule{ImageReference: pattern, Types: types})
	}
	return rules, nil
}

// normalise checks a demand and writes out what it leaves out.
func normalise(t *verification.AttestationType, field string) error {
	if t.Name == "" {
		return invalid(field+".name", "is empty; name the attestation's artifact type")
	}
	if err := boundName(field+".name", t.Name); err != nil {
		return err
	}
	switch t.Select {
	case "":
		t.Select = verification.SelectAll
	case verification.SelectAll, verification.SelectLatest, verification.SelectAny:
	default:
		return invalid(field+".select", "is %q; use all, latest or any", t.Select)
	}
	if err := t.Conditions.Normalise(); err != nil {
		return invalid(field+".conditions"+err.Field, "%s", err.Text)
	}
	*t = t.Identified()
	return nil
}

// Operators lists the condition operators of Kyverno. Their case does not matter.
func Operators() []string { return condition.Operators() }

func sortedKeys[V any](m map[string]V) []string {
	keys := lo.Keys(m)
	slices.Sort(keys)
	return keys
}

// syntaxError turns a decoder's error into one that speaks of JSON fields, not of Go types.
func syntaxError(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		field := wrong.Field
		if field == "" {
			field = "the body"
		}
		return invalid("", "%s: holds a JSON %s, which does not belong there; see the request's schema", field, wrong.Value)
	}
	return invalid("", "the body is not a JSON object: %v", err)
}

// singleDocument refuses a body that is JSON but no object, such as null.
func singleDocument(data []byte) error {
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return invalid("", "the body is not a JSON object")
	}
	return nil
}

var fieldPattern = regexp.MustCompile(`^(unknown|duplicate) field "(.*)"$`)

func strictError(err error) error {
	match := fieldPattern.FindStringSubmatch(err.Error())
	if match == nil {
		return invalid("", "the body is not understood: %v", err)
	}
	if match[1] == "duplicate" {
		return invalid(match[2], "stands twice; send it once")
	}
	return invalid(match[2], "is not a field of the request; check its spelling")
}
