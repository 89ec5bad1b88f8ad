package core

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

func TestNoticeOf(t *testing.T) {
	owner := Owner{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5d9", UID: "0b7a"}
	object := Object{Kind: "Pod", Namespace: "team-a", Name: "web-5d9-*", Owner: owner}
	denied := Verdict{Message: "failed to verify container a\nfailed to verify container b", Class: reason.Denied, Results: []Result{
		{Verified: true, Code: reason.Verified}, {Code: reason.NoSignature, Requested: "ghcr.io/acme/app:v1"},
	}}
	with := func(change func(*Object, *Verdict)) func() (Object, Verdict) {
		return func() (Object, Verdict) {
			o, v := object, denied
			change(&o, &v)
			return o, v
		}
	}
	notice := func(change func(*Notice)) *Notice {
		n := Notice{
			Namespace: "team-a", Regarding: owner, Code: reason.NoSignature, Image: "ghcr.io/acme/app:v1",
			Note: "Pod web-5d9-*: failed to verify container a; failed to verify container b (decision 01J)",
		}
		change(&n)
		return &n
	}
	toNamespace := notice(func(n *Notice) { n.Regarding = Owner{} })
	tests := map[string]struct {
		of   func() (Object, Verdict)
		want *Notice // nil for none
	}{
		"a denied pod of a ReplicaSet":                 {with(func(*Object, *Verdict) {}), notice(func(*Notice) {})},
		"a pod that nobody controls":                   {with(func(o *Object, _ *Verdict) { o.Owner = Owner{} }), toNamespace},
		"an owner without UID":                         {with(func(o *Object, _ *Verdict) { o.Owner.UID = "" }), toNamespace},
		"an owner whose name leads elsewhere":          {with(func(o *Object, _ *Verdict) { o.Owner.Name = "../secrets/x" }), toNamespace},
		"an owner whose kind is a sentence":            {with(func(o *Object, _ *Verdict) { o.Owner.Kind = "Please run this" }), toNamespace},
		"an owner whose version is none":               {with(func(o *Object, _ *Verdict) { o.Owner.APIVersion = "v1\nx" }), toNamespace},
		"a request that does not say which namespace":  {with(func(o *Object, _ *Verdict) { o.Namespace = "" }), nil},
		"a namespace that is a path":                   {with(func(o *Object, _ *Verdict) { o.Namespace = "a/../kube-system" }), nil},
		"all is verified":                              {with(func(_ *Object, v *Verdict) { v.Results, v.Class = v.Results[:1], reason.Admitted }), nil},
		"the service has too much to do":               {with(func(_ *Object, v *Verdict) { v.Class = reason.Busy }), nil},
		"a registry that failed":                       {with(func(_ *Object, v *Verdict) { v.Class = reason.Failed }), notice(func(*Notice) {})},
		"an object whose name would break the line":    {with(func(o *Object, _ *Verdict) { o.Name = "a\x1b[2J" }), notice(func(n *Notice) { n.Note = n.Note[len("Pod web-5d9-*: "):] })},
		"no result, where the request is not about it": {with(func(_ *Object, v *Verdict) { v.Results = nil }), nil},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			object, verdict := test.of()
			got, ok := NoticeOf(object, verdict, "01J")
			if ok != (test.want != nil) || ok && got != *test.want {
				t.Errorf("%v %+v\nwant %+v", ok, got, test.want)
			}
		})
	}
	t.Run("a long message is cut", func(t *testing.T) {
		long := denied
		long.Message = strings.Repeat("é", 2000)
		if got, _ := NoticeOf(object, long, "01J"); len(got.Note) > MaxNote || !strings.HasSuffix(got.Note, "... (decision 01J)") {
			t.Errorf("%d bytes", len(got.Note))
		}
	})
}

func TestOwnerOfARequest(t *testing.T) {
	const pod = `{"object":{"kind":"Pod","metadata":{"namespace":"a","generateName":"web-","ownerReferences":%s},"spec":{"containers":[{"name":"c","image":"ghcr.io/a/b:v1"}]}}}`
	web := Owner{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "u"}
	const controller, other = `{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","uid":"u","controller":true}`, `{"apiVersion":"v1","kind":"X","name":"x","uid":"y"}`
	for references, want := range map[string]Owner{
		"[" + controller + "]":                 {APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "u"},
		"[" + other + "," + controller + "]":   web,
		"[" + other + "]":                      {},
		"[]":                                   {},
		"{}":                                   {},
		`"web"`:                                {},
		"[" + controller[:10] + `":true}]`:     {},
		`[{"controller":"true","name":"web"}]`: {},
		`[{"controller":true,"name":7}]`:       {},
	} {
		request, err := ParseRequest([]byte(fmt.Sprintf(pod, references)))
		if err != nil {
			t.Errorf("%s: %v", references, err)
		}
		if request.Object.Owner != want {
			t.Errorf("%s: %+v", references, request.Object.Owner)
		}
	}
}
