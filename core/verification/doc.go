// Package verification decides every step of verifying an image, as one pure function. Given a task, the evidence so far and
// the time, [Next] gives the lookups to make next, in parallel, or the outcome:
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
// A [Lookup] is a comparable value with everything that its answer depends on, so it is also the key under which answers are
// cached and concurrent lookups are shared. The verification of an image with one attestation takes five rounds:
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
