// Package certificates decides how the service's own certificates are created and rotated. It is pure: the shell gathers a
// [State], calls [Policy.Next], carries out the [Step] and gathers again, until the step is [Rest].
//
// There is one certificate authority (CA) that signs, and during its replacement a second one, its successor. There is one
// serving certificate, and one bundle of the CAs that clients should trust. A call fails when a replica serves a certificate
// whose CA is not in the client's copy of the bundle. Replicas, and clients that follow the bundle, see a change within a
// time called propagation here. Other clients read the bundle only when they start; they are given much longer, a time
// called notice. So:
//
//   - A CA signs only after it has been in the bundle for its notice. Until then the CA before it signs; where that one is
//     lost, the existing serving certificate stays in use. A client that starts again within every notice misses no CA, and
//     the chain is always a single certificate, which no cross certificate makes longer.
//   - Where nothing is left to serve, a CA signs after the propagation time.
//   - A CA stays in the bundle until it expires. No serving certificate is valid for longer than its CA, so even a replica
//     that was disconnected for long serves no certificate that the bundle does not cover.
//   - What is not valid yet, since a clock was ahead when it was made, is replaced.
//   - What is lost is made again from what remains. The Secret of the serving certificate keeps a copy of the bundle.
//
// The first CA signs at once, when there is neither bundle nor serving certificate: then no client can trust anything yet.
package certificates
