// Package image has the names of images: references, wildcard patterns that select them, and JSON pointers to the fields
// that hold them.
//
// A registry has one name here ([CanonicalRegistry]), made where a reference, a pattern or a scope is read: what is
// compared, looked up credentials for and dialled is that name. A pattern is accepted only with a reference that it
// matches; the work for the patterns of one request is bounded by a count of steps, so that the same input is always
// refused.
package image
