// Package image reads what builders of images made, and makes what they build from. Its tests have buildah and BuildKit build the Dockerfile,
// for several platforms, to the same digest each time. They run with make image-test.
package image
