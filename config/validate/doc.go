// Package validate holds the manifests against those who will read them: kustomize, Helm, Knative, Pod Security. It
// is a module of its own, so that they stay out of what the product depends on.
package validate
