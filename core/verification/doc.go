// Package verification holds the whole course of verifying an image as one pure function. [Next] is given a task, the
// evidence that was found so far and the time, and says what to look up next, side by side, or what came of it:
//
//	evidence := verification.Evidence{}
//	for {
//		step := verification.Next(task, evidence, now)
//		if step.Outcome != nil {
//			return *step.Outcome
//		}
//		for _, lookup := range step.Lookups { // in parallel
//			evidence[lookup] = lookUp(lookup)
//		}
//	}
//
// A [Lookup] is a comparable value that holds all on which its answer depends. So it is also the key under which an answer
// is shared and kept. The course of an image with one attestation has five rounds:
//
//  1. the digest of the tag
//  2. what refers to that digest
//  3. the manifest of the signature; that of the attestation, and what refers to it
//  4. the signature; the manifest of the attestation's signature
//  5. the attestation's signature and its document
//
// What comes back is evidence and never a verdict. Of a signature that is what [Assess] makes of the [Report] on it, and of a
// document what [Evaluate] makes of that, so that neither stays in memory. [Check] holds the facts that come out against the
// task.
package verification
