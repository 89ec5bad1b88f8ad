// Package oracle verifies images a second time: slowly, simply, from the true content of a registry, and without a
// line of the service or of notation-go. It knows what the specifications say, and keeps its judgement to itself
// where they leave room (Either).
//
//   - Notary Project: signature specification, trust store and trust policy specification, version 1.1.0
//   - OCI image specification 1.1: image manifests, subject, artifactType
//   - Kubernetes API: where a pod names images
package oracle

// Opinion is what the oracle thinks of an admission.
type Opinion int

// The opinions, in their order: the conjunction of two is the lesser, the disjunction the greater.
const (
	No     Opinion = iota // it must not be admitted
	Either                // the specifications leave it open
	Yes                   // it must be admitted
)

// String is the opinion in a word.
func (o Opinion) String() string { return [...]string{"no", "either", "yes"}[o] }

// when gives Yes or No.
func when(holds bool) Opinion {
	if holds {
		return Yes
	}
	return No
}
