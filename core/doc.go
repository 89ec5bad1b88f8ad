// Package core decides whether the images of a request are admitted. It is pure: values in, values out.
//
// A request passes through it in this order:
//
//	request, err := core.ParseRequest(body)            // bytes -> values, or a RequestError naming the field
//	plan, err := core.NewPlan(request, snapshot, name) // which image, under which trust policy statement
//	facts := ...                                       // the shell gathers one Fact per Task
//	verdict := core.Decide(plan, facts, now)           // a code and a sentence per image
//	patches := core.Patches(verdict)                   // RFC 6902 operations, ordered by pointer
//
// Nothing here or below reads a clock, a file, a network or the environment, so the same input gives the same bytes. A fact
// that the shell could not find out is absent, and an absent fact denies.
//
// # What is where
//
// The packages below can be used by themselves. Each imports only packages that are listed before it:
//
//	reason       codes, findings, and bounds on the untrusted text in them
//	wildcard     Kyverno's patterns with * and ?
//	image        references, the patterns that select them, pointers to image fields
//	trust        trust policies, trust stores and snapshots, and the rules by which they trust a signer
//	condition    Kyverno's conditions on a document
//	verification what to look up next about an image, and what follows from the evidence
//	certificates what the certificate manager does next
//
// This package reads requests and Kubernetes objects, plans, decides, and sums up the verdict.
package core
