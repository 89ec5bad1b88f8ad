// Package core decides, and does nothing else.
//
// A request passes through it as data:
//
//	request, err := core.ParseRequest(body)         // bytes -> values, or a RequestError naming the field
//	plan, err := core.NewPlan(request, trust, name) // which image, under which trust policy statement
//	facts := ...                                    // the shell gathers one Fact per Task
//	verdict := core.Decide(plan, facts, now)        // a code and a sentence per image
//	patches := core.Patches(verdict)                // RFC 6902 operations, ordered by pointer
//
// Nothing here reads a clock, a file, a network or the environment: the same input gives the same bytes.
// What the shell failed to find out is absent from its facts, and what is absent denies.
//
// A registry has one name here ([CanonicalRegistry]), made where a reference, a pattern or a scope is read: what is
// compared, looked up credentials for and dialled is that name. A pattern is accepted only with a reference that it
// matches; work and answers are bounded by counts of steps and bytes, so that the same input is always refused.
package core
