// Package callertoken decides how the bearer token of callers is replaced, which the service and Kyverno's CEL policies read
// from one Secret. It is pure: the shell reads a [State], calls [Policy.Next], writes what the [Step] wants and reads again,
// until there is nothing to write.
//
// Policies send the token that they read last, and replicas of the service accept those that they read last. Both see a change
// late, within a time called propagation here. So a token is replaced in three writes, and each waits for that time after the
// one before it:
//
//	token A                    accepted: A
//	token A, next B            accepted: A, B    replicas learn of B before a policy sends it
//	token B, previous A        accepted: B, A    policies learn of B before A is refused
//	token B                    accepted: B
//
// The wait is measured as the time for which the process that writes has seen the Secret as it is. No time in the Secret counts,
// so neither a clock that jumps nor whoever edits the Secret shortens it, and a process that starts anew waits anew. Only when the
// next token is due goes by the clock: to be early or late there fails no call.
//
// The key that seals what replicas share is replaced in the same way: replicas seal with the token, and open with all that are accepted.
//
// What is edited by hand stays where it can be used. A token that could be guessed, or that no header can carry, is accepted
// nowhere, and is replaced at once.
package callertoken
