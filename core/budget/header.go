package budget

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxHeader bounds a header field that is read, bytes.
const maxHeader = 1024

// maxNumber bounds a number in a header; a larger one is none.
const maxNumber = 1_000_000_000

// ReadLeft reads what is left of a rate limit from the header of an answer, of which get gives a field. It knows the fields of the IETF's
// drafts (draft-ietf-httpapi-ratelimit-headers), old and new, and those of Docker Hub, which are like the old ones:
//
//	RateLimit: "default";r=50;t=30        RateLimit-Policy: "default";q=100;w=60
//	RateLimit: limit=100, remaining=50, reset=30
//	RateLimit-Limit: 100;w=21600          RateLimit-Remaining: 76;w=21600       RateLimit-Reset: 30
//
// Of several limits it gives that of which the least is left. What it cannot read it does not know.
func ReadLeft(get func(field string) string) Left {
	if field := get("RateLimit"); field != "" && len(field) <= maxHeader {
		return readFields(field, get("RateLimit-Policy"))
	}
	remaining, ok := number(get("RateLimit-Remaining"))
	if !ok {
		return Left{}
	}
	left := Left{Known: true, Remaining: remaining}
	left.Limit, _ = number(get("RateLimit-Limit"))
	left.Reset = reset(get("RateLimit-Reset"))
	return left
}

// readFields reads the newer fields.
func readFields(field, policy string) (least Left) {
	limits := map[string]int64{}
	for name, parameters := range items(policy) {
		if limit, ok := number(parameters["q"]); ok {
			limits[name] = limit
		}
	}
	together := Left{} // of the form of one list of parameters
	members := items(field)
	for _, name := range slices.Sorted(maps.Keys(members)) {
		parameters := members[name]
		remaining, ok := number(parameters["r"])
		if ok && (!least.Known || remaining < least.Remaining) {
			least = Left{Known: true, Remaining: remaining, Limit: limits[name], Reset: reset(parameters["t"])}
		}
		key, value, _ := strings.Cut(name, "=")
		n, ok := number(value)
		switch {
		case !ok:
		case key == "remaining":
			together.Known, together.Remaining = true, n
		case key == "limit":
			together.Limit = n
		case key == "reset":
			together.Reset = reset(value)
		}
	}
	if !least.Known {
		return together
	}
	return least
}

// items gives the members of a list with their parameters (RFC 9651), by their text without quotes.
func items(field string) map[string]map[string]string {
	members := map[string]map[string]string{}
	if len(field) > maxHeader {
		return members
	}
	for member := range strings.SplitSeq(field, ",") {
		parts := strings.Split(member, ";")
		parameters := map[string]string{}
		for _, parameter := range parts[1:] {
			key, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
			parameters[key] = value
		}
		members[strings.Trim(strings.TrimSpace(parts[0]), `"`)] = parameters
	}
	return members
}

// reset reads a number of seconds; 0 where it cannot be read.
func reset(field string) time.Duration {
	seconds, ok := number(field)
	if !ok {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, MaxPause)
}

// number reads the number at the start of a field, before its parameters.
func number(field string) (int64, bool) {
	text, _, _ := strings.Cut(field, ";")
	text, _, _ = strings.Cut(text, ",")
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return n, err == nil && n >= 0 && n <= maxNumber
}
