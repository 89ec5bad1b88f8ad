// Package core decides, and does nothing else.
//
// A request passes through it as data:
//
//	request, err := core.ParseRequest(body)            // bytes -> values, or a RequestError naming the field
//	plan, err := core.NewPlan(request, snapshot, name) // which image, under which trust policy statement
//	facts := ...                                       // the shell gathers one Fact per Task
//	verdict := core.Decide(plan, facts, now)           // a code and a sentence per image
//	patches := core.Patches(verdict)                   // RFC 6902 operations, ordered by pointer
//
// Nothing here or below reads a clock, a file, a network or the environment: the same input gives the same bytes.
// What the shell failed to find out is absent from its facts, and what is absent denies.
//
// # What is where
//
// The packages below are of use by themselves, and import only what stands before them:
//
//	reason       codes, findings, and the bounds on what they repeat of a stranger's words
//	wildcard     Kyverno's patterns of * and ?
//	image        references, the patterns that select them, pointers to image fields
//	trust        trust policies, stores and snapshots; who and what they trust
//	condition    Kyverno's conditions on a document
//	certificates what the certificate manager does next
//
// This package reads requests and Kubernetes objects, plans, decides, and sums up the verdict.
package core
