// Package reason has the codes that say why an image is verified or not, the findings that explain them, and the bounds on
// untrusted text in findings.
//
// It imports no other package of this module, so that any package can report a code at little cost.
package reason
