// Package image parses image references, the wildcard patterns that select them, and JSON pointers to image fields.
//
// [Parse] normalises a reference. Its registry gets a canonical name ([CanonicalRegistry]), and so does the registry of every
// pattern and scope: comparisons, credentials and connections all use that name. [Patterns.Parse] accepts a pattern only
// when some reference matches it, and [Matcher.Matches] compares it with all [Reference.Spellings]. The work for the patterns
// of one request is bounded by a count of steps, so that the same input always gives the same result.
package image
