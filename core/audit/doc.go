// Package audit holds what runs against the trust of now, of a proposed change, and over time.
//
// A [Use] is an image of a workload: as it is written, which is what a restart pulls, and as it runs, by digest. [Demand.Checks]
// says what is to be verified of it, so that each distinct check is made once, however many pods share it. [Judge] makes the
// verdict of a check from its facts. Of uses and verdicts the package then makes what a person reads:
//
//	findings := audit.Findings(demand, uses, verdicts)              // what would happen on a restart, now
//	flips := audit.Flips(demand, uses, verdicts, proposed)          // what a change of trust would change
//	expiries := audit.Expiries(demand, uses, verdicts, now, until)  // what ends before a date, and by what
//	anchors := audit.Anchors(demand, uses, verdicts)                // which trusted certificate is behind how many images
//
// What was not verified is never reported as good: a check without a verdict could not be told.
package audit
