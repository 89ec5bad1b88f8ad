// Package migrate translates ClusterPolicies that ask the service at /checkimages into CEL policies that ask it at /verify:
// a MutatingPolicy, which pins what is verified, and a ValidatingPolicy, which denies the rest.
//
// [Policies] reads a manifest, refuses whatever it cannot carry over, and gives one [Pair] for each rule. What decides whom a
// rule applies to is carried over or refused, and never left out: a match that gets lost lets objects in, an exclude or
// precondition that gets lost denies what was admitted. Each refusal is an [*Error] with the line, the field and what to do.
//
// Kyverno evaluates what was JMESPath in a ClusterPolicy as CEL. Text of the policy becomes CEL string literals, never
// code. Preconditions that go by what an object says of itself are refused, because whoever writes the object decides them.
package migrate
