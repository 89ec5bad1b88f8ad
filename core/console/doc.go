// Package console has what the console's pages show, worked out from what it was given: the decisions that a filter chooses, a
// decision as a picture of its chain, certificates on a time line, and what runs and would be denied.
//
//	page := console.Page(console.Select(decisions, filter), filter.Page)
//	nodes := console.Picture(record)
//
// All texts in it may be those of strangers. Who shows them escapes them.
package console
