package world

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nirmata/kyverno-notation-venafi/adversary/oracle"
)

// Request is what is sent, and what the oracle is asked.
type Request struct {
	Body  []byte
	Asked oracle.Request
	Plain bool // nothing in it is odd, so that it must not be refused
}

// drawRequests draws a few; the later ones meet what was kept of the earlier.
func (w *World) drawRequests() {
	for range 1 + w.random.IntN(3) {
		w.Requests = append(w.Requests, w.drawRequest())
		if w.chance(30) {
			w.Requests = append(w.Requests, w.Requests[len(w.Requests)-1])
		}
	}
}

func (w *World) drawRequest() Request {
	body := map[string]any{}
	request := Request{Plain: true}
	w.drawSubject(body, &request)
	request.Asked.TrustPolicy = pick(w, w.Case.Trust.Policies...).Name
	if w.chance(3) {
		request.Asked.TrustPolicy = w.Name + "-unknown"
	}
	body["trustPolicy"] = request.Asked.TrustPolicy
	if w.chance(25) {
		for range 1 + w.random.IntN(2) {
			request.Asked.ImageReferences = append(request.Asked.ImageReferences, w.drawPattern(&request))
		}
		body["imageReferences"] = request.Asked.ImageReferences
	}
	if w.chance(w.mostly(30)) {
		body["attestations"] = w.drawRules(&request)
	}
	text, err := json.Marshal(body)
	if err != nil {
		w.err = err
	}
	request.Body = text
	w.tell("request %.1500s", text)
	return request
}

// drawPattern draws a pattern that matches some of the images, or none, or nothing there can be.
func (w *World) drawPattern(request *Request) string {
	name := pick(w, w.images...).repository
	if w.chance(12) && !w.calm {
		request.Plain = false
		_, path, _ := strings.Cut(name, "/")
		return pick(w, path, path+":*", "https://"+name, " "+name+"*", name+"*\n", "library/"+path+":*", "nginx")
	}
	spelled := w.spelledName(name)
	host, _, _ := strings.Cut(spelled, "/")
	if spelled != name {
		request.Plain = false
	}
	return pick(w, "*", host+"/*", spelled+"*", spelled+":*", spelled, spelled+":v1", "*/"+w.Name+"/*", "*.example/*", "docker.io/*", host+"/"+w.Name+"/???", "other.example/*", spelled+"@sha256:*")
}

func (w *World) drawRules(request *Request) []any {
	var rules []any
	for range 1 + w.random.IntN(2) {
		rule := oracle.Rule{Pattern: w.drawPattern(request)}
		var types []any
		for range 1 + w.random.IntN(2) {
			demand, written := w.drawDemand()
			rule.Demands = append(rule.Demands, demand)
			types = append(types, written)
		}
		request.Asked.Attestations = append(request.Asked.Attestations, rule)
		rules = append(rules, map[string]any{"imageReference": rule.Pattern, "type": types})
	}
	return rules
}

func (w *World) drawDemand() (oracle.Demand, map[string]any) {
	demand := oracle.Demand{Type: pick(w, typeSBOM, typeSBOM, typeScan, "application/vnd.absent"), Select: pick(w, "", "", "all", "latest", "any")}
	if w.calm {
		demand = oracle.Demand{Type: typeSBOM, Select: pick(w, "", "", "", "all", "latest", "any"), All: []oracle.Condition{w.drawCondition()}}
		written := map[string]any{"name": demand.Type, "conditions": map[string]any{"all": demand.All}}
		if demand.Select != "" {
			written["select"] = demand.Select
		}
		return demand, written
	}
	written := map[string]any{"name": demand.Type}
	if demand.Select != "" {
		written["select"] = demand.Select
	}
	conditions := map[string]any{}
	if w.chance(75) {
		for range 1 + w.random.IntN(2) {
			demand.All = append(demand.All, w.drawCondition())
		}
		conditions["all"] = demand.All
	}
	if w.chance(20) {
		for range 1 + w.random.IntN(2) {
			demand.Any = append(demand.Any, w.drawCondition())
		}
		conditions["any"] = demand.Any
	}
	if len(conditions) > 0 {
		written["conditions"] = conditions
	}
	return demand, written
}

func (w *World) drawCondition() oracle.Condition {
	return pick(w,
		oracle.Condition{Key: "{{ components[].licence }}", Operator: "AllNotIn", Value: []string{"GPL-3.0"}},
		oracle.Condition{Key: "{{ components[].licence }}", Operator: "AllIn", Value: []string{"MIT", "Apache-2.0"}},
		oracle.Condition{Key: "{{ components[].licence }}", Operator: "AnyIn", Value: []string{"GPL-3.0"}},
		oracle.Condition{Key: "{{ components[].licence }}", Operator: "AnyNotIn", Value: []string{"MIT"}},
		oracle.Condition{Key: "{{ level }}", Operator: "Equals", Value: "low"},
		oracle.Condition{Key: "{{ level }}", Operator: "NotEquals", Value: "high"},
		oracle.Condition{Key: "{{ level }}", Operator: "AnyIn", Value: []string{"low", "none"}},
		oracle.Condition{Key: "{{ count }}", Operator: "Equals", Value: 0},
		oracle.Condition{Key: "{{ count }}", Operator: "NotEquals", Value: 1234567},
		oracle.Condition{Key: "{{ versions }}", Operator: "NotEquals", Value: []int{1, 2}},
		oracle.Condition{Key: "{{ versions }}", Operator: "Equals", Value: []int{2}},
		oracle.Condition{Key: "{{ versions }}", Operator: "AllNotIn", Value: []int{1234567}},
		oracle.Condition{Key: "{{ versions }}", Operator: "AnyIn", Value: []int{1234567, 2}},
		oracle.Condition{Key: "{{ absent }}", Operator: "NotEquals", Value: "x"},
	)
}

// drawReference spells an image in one of many ways.
func (w *World) drawReference(plain *bool) string {
	i := pick(w, w.images...)
	if w.chance(4) && !w.calm {
		*plain = false
		return w.brokenReference(i)
	}
	name := w.spelledName(i.repository)
	if short, official := strings.CutPrefix(name, "docker.io/"); official && w.chance(50) {
		name = short
	}
	if !oracleAgrees(name, i.repository) {
		name = i.repository
	}
	switch w.random.IntN(8) {
	case 0:
		return name + "@" + i.subject.Digest
	case 1:
		return name + ":" + i.tag + "@" + i.subject.Digest
	case 2:
		return name
	case 3:
		return name + ":absent"
	}
	return name + ":" + i.tag
}

// oracleAgrees keeps spellings that happen to mean another repository out.
func oracleAgrees(name, canonical string) bool {
	ref, ok := oracle.ParseReference(name)
	return ok && ref.Name == canonical
}

func (w *World) brokenReference(i image) string {
	hex := strings.TrimPrefix(i.subject.Digest, "sha256:")
	return pick(w, i.subject.Digest, hex, " "+i.repository, i.repository+":", i.repository+"@", i.repository+":"+i.tag+"@sha256:"+hex[:63],
		i.repository+"/", "https://"+i.repository, i.repository+":v1 ", i.repository+"@"+i.subject.Digest+"@"+i.subject.Digest, i.repository+":v1/..", "my_reg.example/x", i.repository+"\n")
}

// field is one image of the object, or of images, under way.
func (w *World) container(request *Request, name string) map[string]any {
	return map[string]any{"name": name, "image": w.drawReference(&request.Plain)}
}

func (w *World) podSpec(request *Request) map[string]any {
	spec := map[string]any{}
	for _, group := range []string{"containers", "initContainers", "ephemeralContainers"} {
		if group == "containers" && !w.chance(5) || w.chance(20) {
			var list []any
			for i := range 1 + w.random.IntN(2) {
				list = append(list, w.container(request, fmt.Sprintf("%s%d", group[:1], i)))
			}
			spec[group] = list
		}
	}
	if w.chance(15) {
		spec["volumes"] = []any{
			map[string]any{"name": "data", "emptyDir": map[string]any{}},
			map[string]any{"name": "model", "image": map[string]any{"reference": w.drawReference(&request.Plain), "pullPolicy": "Always"}},
		}
	}
	if len(spec) == 0 || spec["containers"] == nil {
		request.Plain = false
	}
	return spec
}

// drawSubject draws the object, or images.
func (w *World) drawSubject(body map[string]any, request *Request) {
	if w.chance(25) {
		w.drawImagesOf(body, request)
		return
	}
	object := w.drawObject(request)
	body["object"] = object
	text, err := json.Marshal(object)
	if err != nil {
		w.err = err
	}
	fields, ok := oracle.Fields(text)
	if !ok {
		request.Plain = false
	}
	request.Asked.Fields = fields
}

func (w *World) drawObject(request *Request) map[string]any {
	object := func(version, kind string, spec map[string]any) map[string]any {
		return map[string]any{"apiVersion": version, "kind": kind, "metadata": w.metadata(), "spec": spec}
	}
	template := func() map[string]any {
		return map[string]any{"template": map[string]any{"metadata": w.metadata(), "spec": w.podSpec(request)}}
	}
	switch w.random.IntN(10) {
	case 0, 1, 2, 3:
		return object("v1", "Pod", w.podSpec(request))
	case 4, 5:
		return object("apps/v1", pick(w, "Deployment", "StatefulSet", "DaemonSet"), template())
	case 6:
		return object("batch/v1", "Job", template())
	case 7:
		return object("batch/v1", "CronJob", map[string]any{"schedule": "* * * * *", "jobTemplate": map[string]any{"spec": template()}})
	}
	request.Plain = false
	return object("example.com/v1", pick(w, "SidecarSet", "Rollout", "Pod"), w.customSpec(request, template))
}

// customSpec hides pod specs where a custom kind may have them.
func (w *World) customSpec(request *Request, template func() map[string]any) map[string]any {
	switch w.random.IntN(4) {
	case 0: // a pod spec beside a template
		spec := w.podSpec(request)
		spec["template"] = template()["template"]
		return spec
	case 1: // a template below a template's spec
		spec := template()
		spec["template"].(map[string]any)["spec"].(map[string]any)["jobs"] = []any{template()}
		return spec
	case 2: // a template with volumes only
		volume := map[string]any{"name": "model", "image": map[string]any{"reference": w.drawReference(&request.Plain)}}
		hidden := map[string]any{"template": map[string]any{"spec": map[string]any{"volumes": []any{volume}}}}
		return map[string]any{"first": template(), "second": hidden}
	}
	return map[string]any{"stages": []any{template(), map[string]any{"a/b~c": template()}}}
}

// metadata claims things that must not count.
func (w *World) metadata() map[string]any {
	metadata := map[string]any{"name": "x"}
	if w.chance(10) {
		metadata["deletionTimestamp"] = "2020-01-01T00:00:00Z"
	}
	if w.chance(10) {
		metadata["annotations"] = map[string]any{"kyverno.io/verify-images": `{"` + w.images[0].repository + `:v1":"pass"}`}
	}
	return metadata
}

// drawImagesOf writes Kyverno's {{ images }}.
func (w *World) drawImagesOf(body map[string]any, request *Request) {
	groups := map[string]map[string]any{}
	for _, group := range []string{"containers", "initContainers", "custom"}[:1+w.random.IntN(3)] {
		groups[group] = map[string]any{}
		for i := range 1 + w.random.IntN(2) {
			field := oracle.Field{Pointer: fmt.Sprintf("/spec/%s/%d/image", group, i), Image: w.drawReference(&request.Plain)}
			entry := map[string]any{"jsonPointer": field.Pointer, "reference": field.Image}
			if ref, ok := oracle.ParseReference(field.Image); ok && w.chance(50) {
				host, path, _ := strings.Cut(ref.Name, "/")
				entry["registry"], entry["path"], entry["name"] = host, path, path[strings.LastIndex(path, "/")+1:]
				if ref.Tag != "" {
					entry["tag"] = ref.Tag
				}
				if ref.Digest != "" {
					entry["digest"] = ref.Digest
				}
			}
			groups[group][fmt.Sprintf("c%d", i)] = entry
			request.Asked.Fields = append(request.Asked.Fields, field)
		}
	}
	body["images"] = groups
}
