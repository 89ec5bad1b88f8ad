package ledger

import "time"

// Kind is a kind of finding.
type Kind string

// The kinds. Those of the second group can be accepted.
const (
	Malformed  Kind = "Malformed"  // a line is not one that the service writes
	Torn       Kind = "Torn"       // the last line of a file has no end
	Changed    Kind = "Changed"    // a line does not follow the one before it
	Missing    Kind = "Missing"    // lines were removed
	Repeated   Kind = "Repeated"   // a line is there twice, or out of order
	Appended   Kind = "Appended"   // a line comes after its chain was closed
	Contradict Kind = "Contradict" // a checkpoint says something else than the lines
	BadKey     Kind = "BadKey"     // the key is unknown, or was not valid at the time
	BadSign    Kind = "BadSign"    // the signature is wrong
	BadTime    Kind = "BadTime"    // time goes backwards
	Rollback   Kind = "Rollback"   // what was seen before is not there any more
	TooMany    Kind = "TooMany"    // a bound was reached, and the rest is not verified
	Unsigned   Kind = "Unsigned"   // a chain is signed nowhere

	Partial Kind = "Partial" // the beginning is not in the files
	Open    Kind = "Open"    // the end of a chain is not signed, or may have been cut off
)

// Finding is something that keeps a log from being proven.
type Finding struct {
	Kind     Kind   `json:"kind"`
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"` // from 1
	Chain    string `json:"chain,omitempty"`
	Text     string `json:"text"`
	Accepted bool   `json:"accepted,omitempty"`
}

// Summary is what is known of one chain.
type Summary struct {
	Chain       string    `json:"chain"`
	Replica     string    `json:"replica,omitempty"` // "" where neither the start nor a checkpoint is in the files
	Started     time.Time `json:"started,omitzero"`
	After       *Head     `json:"after,omitempty"`
	First       uint64    `json:"first"` // sequence
	Head        Head      `json:"head"`
	Records     int       `json:"records"`
	Dropped     uint64    `json:"dropped,omitempty"`
	Checkpoints int       `json:"checkpoints"` // with a good signature
	SignedAt    time.Time `json:"signedAt,omitzero"`
	Key         string    `json:"key,omitempty"` // fingerprint of the last one
	Closed      bool      `json:"closed,omitempty"`
	ContinuedBy string    `json:"continuedBy,omitempty"`
	Unsigned    uint64    `json:"unsigned"` // lines at the end that nothing vouches for
}

// Report is the result of a verification.
type Report struct {
	Whole    bool      `json:"whole"` // nothing was found that is not accepted
	Lines    int       `json:"lines"`
	Records  int       `json:"records"`
	Chains   []Summary `json:"chains"`
	Findings []Finding `json:"findings,omitempty"`
	More     int       `json:"more,omitempty"` // findings that are not listed
}

// Heads are the ends of the chains, to be given to a later verification.
func (r Report) Heads() []Head {
	heads := make([]Head, len(r.Chains))
	for i, chain := range r.Chains {
		heads[i] = chain.Head
	}
	return heads
}
