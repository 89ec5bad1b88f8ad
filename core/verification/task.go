package verification

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/nirmata/kyverno-notation-venafi/core/condition"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// Task is the verification of one image.
type Task struct {
	Ref          image.Reference
	Policy       string            // name of the trust policy
	Statement    trust.Statement   // that covers the reference
	Stores       trust.Stores      // among which are those that the statement names
	Revision     string            // hash of the statement and its trust stores
	Attestations []AttestationType // that the image must carry, in the request's order
	Platforms    image.Platforms   // whose manifests must be signed beside their index; the zero value for none
	Plugins      string            // revision of the installed plugins and their configuration
	Limits       Limits
}

// AttestationType demands attestations of one type.
type AttestationType struct {
	Name       string               `json:"name"`       // artifact type, such as "sbom/cyclone-dx"
	Select     Select               `json:"select"`     // which of several must meet the conditions
	Conditions condition.Conditions `json:"conditions"` // zero value: a trusted attestation is enough

	identity string // see Identity; "" where it was not made yet
}

// Select says which of several trusted attestations of one type must meet the conditions.
type Select string

// The ways to select. SelectAll is what an absent field means.
const (
	SelectAll    Select = "all"
	SelectLatest Select = "latest"
	SelectAny    Select = "any"
)

// Identity is a hash of the demand, for keys: conditions may be as long as a request's body. Only equal demands have the same
// identity.
func (t AttestationType) Identity() string {
	if t.identity != "" {
		return t.identity
	}
	text, err := json.Marshal(t)
	if err != nil { // for conditions that did not come from JSON
		text = fmt.Appendf(nil, "%#v", t)
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

// Identified gives the demand with its identity stored, so that it is worked out once.
func (t AttestationType) Identified() AttestationType {
	t.identity = t.Identity()
	return t
}

// Demand finds the attestation type of an identity among those of a task.
func (t Task) Demand(identity string) (AttestationType, bool) {
	i := slices.IndexFunc(t.Attestations, func(demand AttestationType) bool { return demand.Identity() == identity })
	if i < 0 {
		return AttestationType{}, false
	}
	return t.Attestations[i], true
}

func (t Task) trust() Trust {
	return Trust{Policy: t.Policy, Revision: t.Revision, Plugins: t.Plugins}
}

// signatureRepository is the repository that signatures and attestations are in.
func (t Task) signatureRepository() string {
	return cmp.Or(t.Statement.SignatureRepository, t.Ref.Name())
}

// inRepository says where signatures are, where that is not the image's repository.
func (t Task) inRepository() string {
	if t.Statement.SignatureRepository == "" {
		return ""
	}
	return " in " + t.Statement.SignatureRepository
}

// demands identifies the attestation types that the task demands: their identities, or a hash of these if there are several.
func (t Task) demands() string {
	if len(t.Attestations) == 0 {
		return ""
	}
	identities := make([]string, len(t.Attestations))
	for i, demand := range t.Attestations {
		identities[i] = demand.Identity()
	}
	demands := strings.Join(identities, " ")
	if len(demands) > sha256.Size*2 {
		demands = fmt.Sprintf("%x", sha256.Sum256([]byte(demands)))
	}
	return demands
}
