// Package openapi holds the description of the HTTP API, openapi.yaml beside this folder, against the specification of OpenAPI,
// and what handlers and core answer against the description. It is a module of its own, so that the libraries for that stay out
// of what the product depends on.
package openapi
