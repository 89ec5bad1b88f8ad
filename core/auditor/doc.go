// Package auditor decides what the auditor does next, while it watches a cluster: which image to verify, which report to write,
// and which Event to record. It reads no clock and does nothing itself; whoever runs it tells it what was seen, with the time, asks
// what to do, and tells what came of it:
//
//	state.Pod(pod, now)                       // what was seen: pods, their owners, namespaces, reports that exist
//	state.Trust(trust, now)                   // the trust in force, and each change of it
//	task, wait := state.Next(now, ready)      // what to verify
//	state.Verified(task, verdict, now)
//	write, wait := state.NextWrite(now)       // which report to write, and the Event to record before it
//	state.Wrote(write, outcome, now)
//
// An image is verified under a trust policy once, however many pods run it, and again when its interval is over or when the
// revision of its trust is another one. Namespaces take turns, in verifying and in writing, so that none holds up another.
//
// All that has to outlive the process is in the reports: what was said of a workload, and under which trust.
package auditor
