// Package image tests that buildah builds the Dockerfile, for several platforms, to the same digest each time. It runs with make
// image-test.
package image
