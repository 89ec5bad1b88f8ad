package core_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

func TestParseRequestFindsEveryImageOfATypedObject(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 0))
		var want []string
		image := func() string {
			name := fmt.Sprintf("registry.example/app-%d:v1", len(want))
			want = append(want, name)
			return name
		}
		template := corev1.PodTemplateSpec{Spec: podSpec(random, image)}
		spec := template.Spec
		for _, object := range []any{
			corev1.Pod{Spec: spec}, corev1.PodTemplate{Template: template}, corev1.ReplicationController{Spec: corev1.ReplicationControllerSpec{Template: &template}},
			appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: template}}, appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Template: template}},
			appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: template}}, appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Template: template}},
			batchv1.Job{Spec: batchv1.JobSpec{Template: template}}, batchv1.CronJob{Spec: batchv1.CronJobSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template}}}},
			corev1.PodList{Items: []corev1.Pod{{Spec: spec}}},
		} {
			text, err := json.Marshal(map[string]any{"object": object})
			if err != nil {
				t.Fatal(err)
			}
			request, err := core.ParseRequest(text)
			if err != nil {
				t.Fatalf("%T of seed %d: %v\n%s", object, seed, err, text)
			}
			var got []string
			for _, found := range request.Images {
				got = append(got, found.Written)
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("%T of seed %d: found %q, want %q", object, seed, got, want)
			}
		}
	}
}

// podSpec names up to three images in each way, and at least one.
func podSpec(random *rand.Rand, image func() string) (spec corev1.PodSpec) {
	for i := range random.IntN(4) {
		spec.InitContainers = append(spec.InitContainers, corev1.Container{Name: fmt.Sprint("i", i), Image: image()})
	}
	for i := range 1 + random.IntN(3) {
		spec.Containers = append(spec.Containers, corev1.Container{Name: fmt.Sprint("c", i), Image: image()})
	}
	for i := range random.IntN(4) {
		common := corev1.EphemeralContainerCommon{Name: fmt.Sprint("e", i), Image: image()}
		spec.EphemeralContainers = append(spec.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: common})
	}
	for i := range random.IntN(4) {
		source := corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
		if random.IntN(2) == 0 {
			source = corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: image()}}
		}
		spec.Volumes = append(spec.Volumes, corev1.Volume{Name: fmt.Sprint("v", i), VolumeSource: source})
	}
	return spec
}

// FuzzRegistryNames holds that two names of one registry make one image, one selection and one statement.
func FuzzRegistryNames(f *testing.F) {
	for _, a := range []string{"reg.example", "reg.example:0443", "REG.example", "docker.io", "registry-1.docker.io", "[::1]:5000", "[0::1]:05000", "10.0.0.1", "[::ffff:a00:1]", "reg:443", "localhost"} {
		for _, b := range []string{"reg.example:443", "index.docker.io", "[0:0::0:1]:5000", "10.0.0.1:443", "reg:0443", "localhost:443"} {
			f.Add(a, b)
		}
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		one, err := image.CanonicalRegistry(a)
		two, err2 := image.CanonicalRegistry(b)
		if err != nil || err2 != nil || one != two {
			return
		}
		ref, err := image.Parse(a + "/team/app:v1")
		other, err2 := image.Parse(b + "/team/app:v1")
		if err != nil || err2 != nil || !image.NamesRegistry(a) || !image.NamesRegistry(b) {
			return // not all names of a registry are those of an image, such as one with a dot at its end, or one label
		}
		if ref != other || ref.Registry != one {
			t.Fatalf("%q and %q are %q, and make %s and %s", a, b, one, ref, other)
		}
		statements := []trust.Statement{{Name: "named", RegistryScopes: []string{a + "/team/app"}}, {Name: "rest", RegistryScopes: []string{"*"}, Level: "skip"}}
		snapshot := trust.Snapshot{Policies: map[string]trust.Policy{"default": {Name: "default", Statements: statements}}}
		body, err := json.Marshal(map[string]any{"imageReferences": []string{a + "/team/*"}, "object": map[string]any{"containers": []any{map[string]any{"image": b + "/team/app:v1"}}}})
		if err != nil {
			t.Fatal(err)
		}
		request, err := core.ParseRequest(body)
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		plan, err := core.NewPlan(request, snapshot, "default")
		if err != nil || len(plan.Tasks) != 1 || plan.Tasks[0].Statement.Name != "named" {
			t.Fatalf("%q and %q are %q, and the plan is %+v: %v", a, b, one, plan, err)
		}
	})
}

func TestParseRequestResistsBypassesKnownFromPeers(t *testing.T) {
	evil := "sha256:" + "e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0"
	tests := map[string]struct {
		patterns []string // of imageReferences
		image    string
		selected bool
	}{
		"Portieris 0.14.2: a wildcard matched within a name":          {[]string{"icr.io/*"}, "evil.example/icr.io/app:v1", false},
		"and one with the trusted name for its host's beginning":      {[]string{"icr.io*"}, "icr.io.evil.example/app:v1", true}, // verified, as the star says
		"and one with the trusted name for its host's end":            {[]string{"icr.io/*"}, "evil-icr.io/app:v1", false},
		"a pattern is no regular expression: a dot is a dot":          {[]string{"icr.io/*"}, "icrxio/app:v1", false},
		"an image by digest is verified like one by tag":              {[]string{"ghcr.io/acme/*"}, "ghcr.io/acme/app@" + evil, true},
		"an image by tag and digest is verified by its digest":        {[]string{"ghcr.io/acme/*:v1"}, "ghcr.io/acme/app:v1@" + evil, true},
		"a pattern with a tag sees the tag beside a digest":           {[]string{"ghcr.io/acme/app:v1"}, "ghcr.io/acme/app:v1@" + evil, true},
		"capitals in the host do not hide an image from its pattern":  {[]string{"ghcr.io/acme/*"}, "GHCR.IO/acme/app:v1", true},
		"nor does Docker Hub's short form, with a tag":                {[]string{"docker.io/library/nginx*"}, "nginx:1.27", true},
		"nor does the port that the registry has anyway, with zeroes": {[]string{"ghcr.io/acme/*"}, "ghcr.io:00443/acme/app:v1", true},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			body, err := json.Marshal(map[string]any{
				"imageReferences": tt.patterns,
				"object": map[string]any{
					"kind":     "Pod",
					"metadata": map[string]any{"annotations": map[string]string{"kyverno.io/verify-images": `{"` + tt.image + `":"pass"}`}, "deletionTimestamp": "2026-01-01T00:00:00Z"},
					"spec":     map[string]any{"containers": []any{map[string]any{"image": tt.image}}},
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			request, err := core.ParseRequest(body)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := core.NewPlan(request, everything(), "default")
			if err != nil || (len(plan.Tasks) == 1) != tt.selected {
				t.Errorf("%d tasks, want %t: %v", len(plan.Tasks), tt.selected, err)
			}
		})
	}
}
