// Package audit holds what runs against the trust of now, of a proposed change, and over time.
//
// A [Use] is an image of a workload: as it is written, which is what a restart pulls, and as it runs, by digest. [Demands] say
// under which trust policies it is held, and with which attestations: everywhere the same, or by namespace, as the policies
// themselves say ([AppliesTo]). [Demands.Checks] then lists what is to be verified, so that each distinct check is made once,
// however many pods share it, [Demands.Plan] plans a check, and [Judge] makes its verdict from the facts. Of these the package
// makes what a person reads:
//
//	now := audit.Evaluation{Demands: demands, Verdicts: verdicts}
//	findings := now.Findings(uses)                  // what would happen on a restart, now
//	flips := audit.Flips(uses, now, proposed)       // what a change of trust would change
//	expiries := now.Expiries(uses, time, until)     // what ends before a date, and by what
//	anchors := now.Anchors(uses)                    // which trusted certificate is behind how many images
//
// What was not verified is never reported as good: a check without a verdict could not be told.
package audit
