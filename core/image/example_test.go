package image_test

import (
	"fmt"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
)

func ExampleParse() {
	for _, name := range []string{"nginx", "GHCR.IO:443/acme/app:v1", "localhost:5000/app"} {
		ref, err := image.Parse(name)
		fmt.Println(ref, err)
	}
	// Output:
	// docker.io/library/nginx:latest <nil>
	// ghcr.io/acme/app:v1 <nil>
	// localhost:5000/app:latest <nil>
}

func ExamplePatterns_Parse() {
	patterns := image.NewPatterns()
	pattern, err := patterns.Parse("GHCR.io/acme/*")
	fmt.Println(pattern, err)
	_, err = patterns.Parse("nginx")
	fmt.Println(err)
	// Output:
	// ghcr.io/acme/* <nil>
	// "nginx" matches no image: images are compared by their full name, such as docker.io/library/nginx:1.27 or ghcr.io/acme/app@sha256:...; write "docker.io/nginx"
}

func ExampleMatcher_Matches() {
	ref, _ := image.Parse("nginx:1.27")
	matcher := image.NewMatcher()
	for _, pattern := range []string{"docker.io/library/nginx:*", "docker.io/nginx:1.27", "ghcr.io/*"} {
		fmt.Println(pattern, matcher.Matches(pattern, ref, ref.Spellings()))
	}
	// Output:
	// docker.io/library/nginx:* true
	// docker.io/nginx:1.27 true
	// ghcr.io/* false
}
