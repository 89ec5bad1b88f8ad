package auditor

import (
	"slices"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
)

// Ref names an object as an owner reference does.
type Ref struct {
	APIVersion, Kind, Name, UID string
}

// Object is a pod, or what may own pods.
type Object struct {
	Ref
	Namespace  string
	Controller Ref // the owner that controls it, as it says itself; zero for none
}

// Pod is a pod that runs, or is about to.
type Pod struct {
	Object
	Uses []audit.Use // its images; without workload and number of pods
}

// Kinds lists the kinds of owners that are looked up, as group/Kind. What another kind owns is told of the topmost owner below.
func Kinds() []string {
	return []string{"apps/Deployment", "apps/ReplicaSet", "apps/StatefulSet", "apps/DaemonSet", "batch/Job", "batch/CronJob"}
}

// known tells whether owners of this kind are looked up.
func (r Ref) known() bool {
	group, _, _ := strings.Cut(r.APIVersion, "/")
	return slices.Contains(Kinds(), group+"/"+r.Kind)
}

// is tells whether an object is the one that a reference in a namespace names. Who makes a pod writes any reference.
func (o Object) is(ref Ref, namespace string) bool {
	group, _, _ := strings.Cut(ref.APIVersion, "/")
	own, _, _ := strings.Cut(o.APIVersion, "/")
	return o.Namespace == namespace && o.UID == ref.UID && o.Kind == ref.Kind && o.Name == ref.Name && group == own
}

// Bounds on owners.
const (
	maxOwners   = 4                // in a chain; Kubernetes' own kinds need two
	ownerArrive = 10 * time.Second // within which an owner is seen after its pod; also what is deleted takes its pods along
)

// pod is what is kept of a pod.
type pod struct {
	Object
	written  []audit.Use
	owners   []string // UIDs of the owners that it was resolved by, known or not
	waits    time.Time
	workload *workload // nil while it waits for its owner, and where its namespace is not looked at
	uses     []*use
	left     bool // some of its images are left out, for want of room
}

// Pod takes in a pod that is new or has changed.
func (s *State) Pod(seen Pod, now time.Time) {
	key := podKey{seen.Namespace, seen.Name}
	p := s.pods[key]
	if p != nil && p.UID == seen.UID && p.Object == seen.Object && slices.Equal(p.written, seen.Uses) {
		return
	}
	if p == nil || p.UID != seen.UID {
		s.PodGone(seen.Namespace, seen.Name, now)
		p = &pod{}
		s.pods[key] = p
	}
	p.Object, p.written = seen.Object, seen.Uses
	s.resolve(p, now)
}

// PodGone forgets a pod that was deleted or has ended.
func (s *State) PodGone(namespace, name string, now time.Time) {
	key := podKey{namespace, name}
	if p := s.pods[key]; p != nil {
		s.unlink(p, now)
		delete(s.waiting, p)
		delete(s.pods, key)
	}
}

// Pods replaces all pods by those of a list.
func (s *State) Pods(seen []Pod, now time.Time) {
	listed := make(map[podKey]bool, len(seen))
	for _, pod := range seen {
		listed[podKey{pod.Namespace, pod.Name}] = true
	}
	for key := range s.pods {
		if !listed[key] {
			s.PodGone(key.namespace, key.name, now)
		}
	}
	for _, pod := range seen {
		s.Pod(pod, now)
	}
}

// Object takes in an owner that is new or has changed.
func (s *State) Object(seen Object, now time.Time) {
	if s.objects[seen.UID] == seen {
		return
	}
	s.objects[seen.UID] = seen
	s.resolveOwned(seen.UID, now)
}

// ObjectGone forgets an owner that was deleted. Its pods wait for a moment, since they are deleted after it.
func (s *State) ObjectGone(uid string, now time.Time) {
	if _, known := s.objects[uid]; known {
		delete(s.objects, uid)
		s.resolveOwned(uid, now)
	}
}

// Objects replaces all owners of a kind, group/Kind, by those of a list.
func (s *State) Objects(kind string, seen []Object, now time.Time) {
	listed := make(map[string]bool, len(seen))
	for _, object := range seen {
		listed[object.UID] = true
	}
	for uid, object := range s.objects {
		group, _, _ := strings.Cut(object.APIVersion, "/")
		if group+"/"+object.Kind == kind && !listed[uid] {
			s.ObjectGone(uid, now)
		}
	}
	for _, object := range seen {
		s.Object(object, now)
	}
}

func (s *State) resolveOwned(uid string, now time.Time) {
	for _, p := range sortedPods(s.owned[uid]) {
		s.resolve(p, now)
	}
}

// resolve finds the workload of a pod, the topmost owner that exists, and counts its images there.
func (s *State) resolve(p *pod, now time.Time) {
	s.unlink(p, now)
	if s.space(p.Namespace).ignored {
		return
	}
	top, missing := p.Object, false
	for at := p.Controller; at.known() && len(p.owners) < maxOwners; at = top.Controller {
		p.owners = append(p.owners, at.UID)
		link(s.owned, at.UID, p)
		owner, exists := s.objects[at.UID]
		missing = !exists
		if !exists || !owner.is(at, p.Namespace) {
			break
		}
		top = owner
	}
	if missing {
		if p.waits.IsZero() {
			p.waits = now
		}
		if now.Sub(p.waits) < ownerArrive {
			s.waiting[p] = true
			return
		}
	} else {
		p.waits = time.Time{}
	}
	delete(s.waiting, p)
	s.attach(p, top, now)
}

// Settle goes on with the pods whose owner does not appear, and with those for which there was no room. Call it every few seconds.
func (s *State) Settle(now time.Time) {
	for _, p := range sortedPods(s.waiting) {
		s.resolve(p, now)
	}
	for _, p := range sortedPods(s.leftOut) {
		if s.hasRoom(p) {
			s.resolve(p, now)
		}
	}
	for name, of := range s.spaces {
		if (of.gone || !of.ignored) && len(of.workloads)+len(of.orphans)+of.busy == 0 { // one that ends must be known until it is gone
			delete(s.spaces, name)
		}
	}
}

// attach counts the images of a pod at its workload.
func (s *State) attach(p *pod, top Object, now time.Time) {
	w := s.workloads[top.UID]
	if w == nil {
		w = s.newWorkload(top, now)
	}
	p.workload = w
	w.pods++
	for _, written := range p.written {
		key := useKey{written.Container, written.Image, written.Running}
		u := w.uses[key]
		if u == nil {
			if !s.hasRoom(p) {
				p.left = true
				s.leftOut[p] = true
				continue
			}
			u = &use{key: key}
			w.uses[key] = u
			w.space.uses++
			s.uses++
			s.demand(w, u, now)
		}
		u.pods++
		p.uses = append(p.uses, u)
	}
	w.touch()
}

// unlink takes a pod's images off its workload, which goes with the last of them.
func (s *State) unlink(p *pod, now time.Time) {
	for _, uid := range p.owners {
		unlink(s.owned, uid, p)
	}
	delete(s.leftOut, p)
	p.owners, p.left = nil, false
	w := p.workload
	if w == nil {
		return
	}
	for _, u := range p.uses {
		if u.pods--; u.pods == 0 {
			delete(w.uses, u.key)
			w.space.uses--
			s.uses--
			for _, c := range u.checks {
				s.release(w, c)
			}
		}
	}
	p.workload, p.uses = nil, nil
	w.pods--
	w.touch()
	if w.pods == 0 {
		s.removeWorkload(w, now)
	}
}

func link(index map[string]map[*pod]bool, uid string, p *pod) {
	if index[uid] == nil {
		index[uid] = map[*pod]bool{}
	}
	index[uid][p] = true
}

func unlink(index map[string]map[*pod]bool, uid string, p *pod) {
	delete(index[uid], p)
	if len(index[uid]) == 0 {
		delete(index, uid)
	}
}
