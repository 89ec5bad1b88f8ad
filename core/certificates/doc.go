// Package certificates decides how the service's own certificates live: values in, the next step out. Nothing here reads
// a clock, makes a key or writes; the shell gathers a State, asks Next, acts, and gathers again until there is rest.
//
// There is one certificate authority (CA) that signs, and while it is being replaced a second one that waits. There is
// one serving certificate, and one bundle: the CAs that clients are to trust. A call fails when a replica serves a
// certificate whose CA the client does not have yet, or has no longer. Both sides learn late of a change, within the
// time that is called propagation here. So:
//
//   - A CA signs when it has been in the bundle for that long. Before, the CA that it replaces signs on; where that is
//     lost, the serving certificate that exists stays as it is.
//   - A CA stays in the bundle until it expires. No replica, however long it was cut off, serves a certificate then that
//     the bundle does not cover, as no certificate outlives its CA.
//   - What is lost is made anew from what remains: the Secret of the serving certificate keeps a copy of the bundle.
//
// Only where nobody can have trusted anything yet, because there is neither bundle nor serving certificate, does the
// first CA sign at once.
package certificates
