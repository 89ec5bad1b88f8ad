package core

import (
	"regexp"
	"strings"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Owner is the object that controls another one, as that one says. Whoever may create an object writes this as they like.
type Owner struct {
	APIVersion, Kind, Name, UID string
}

// Notice is what those who look after an object are told of a verdict, as an Event of Kubernetes.
type Notice struct {
	Namespace string      // of the Event, and of what it regards
	Regarding Owner       // the object's controller; zero for the namespace
	Code      reason.Code // of the first image that is not verified
	Image     string      // which that is
	Note      string      // at most MaxNote bytes, of one line
}

// MaxNote bounds the note, bytes (Kubernetes, NoteLengthLimit).
const MaxNote = 1024

// NoticeOf tells of a verdict that verifies not every image, by the id of the decision; ok is false where nobody is to be told: all is verified, the
// service had too much to do, or the request does not say in which namespace the object is. The Event regards nothing outside of
// that namespace, whatever the object says of its owner.
func NoticeOf(object Object, verdict Verdict, id string) (notice Notice, ok bool) {
	if object.Namespace == "" || !label.MatchString(object.Namespace) || verdict.Class == reason.Busy || verdict.Class == reason.Rejected {
		return Notice{}, false
	}
	for _, result := range verdict.Results {
		if result.Verified {
			continue
		}
		decision := " (decision " + id + ")"
		note := strings.ReplaceAll(verdict.Message, "\n", "; ")
		if kind.MatchString(object.Kind) && subdomain.MatchString(strings.TrimRight(object.Name, "-*")) {
			note = object.Kind + " " + object.Name + ": " + note
		}
		return Notice{
			Namespace: object.Namespace, Regarding: object.Owner.orNone(), Code: result.Code, Image: result.Requested,
			Note: reason.Clip(note, MaxNote-len("...")-len(decision)) + decision,
		}, true
	}
	return Notice{}, false
}

// What the names of Kubernetes look like.
var (
	label     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	subdomain = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	group     = regexp.MustCompile(`^([a-z0-9.-]{1,253}/)?v[a-z0-9]{1,62}$`)
	kind      = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,62}$`)
	uid       = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
)

// orNone is the owner, if it looks like an object of Kubernetes.
func (o Owner) orNone() Owner {
	if !group.MatchString(o.APIVersion) || !kind.MatchString(o.Kind) || !subdomain.MatchString(o.Name) || !uid.MatchString(o.UID) {
		return Owner{}
	}
	return o
}
