package record

import (
	"crypto/x509"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// Version is the version of the form that [Encode] writes and [Decode] reads.
const Version = "kyverno-notation-venafi/decision/v1"

// MaxBytes bounds an encoded record.
const MaxBytes = 256 << 10

// Record is one decision.
type Record struct {
	Version    string       `json:"version"`
	ID         string       `json:"id"`               // ULID
	Time       time.Time    `json:"time"`             // of the request, for which was decided
	Took       Micros       `json:"tookMicros"`       // until there was a verdict
	Replica    string       `json:"replica,omitzero"` // that decided
	Endpoint   string       `json:"endpoint"`         // path of the request
	Caller     string       `json:"caller,omitzero"`  // as authenticated; "" where callers are not
	Background bool         `json:"background,omitzero"`
	Request    Request      `json:"request"`
	Object     core.Object  `json:"object,omitzero"` // as the request says
	Plan       Plan         `json:"plan"`
	Evidence   []Gathered   `json:"evidence"` // one per task of the plan
	Outcome    string       `json:"outcome"`  // in a word: see Outcome
	Verdict    core.Verdict `json:"verdict"`
	Patches    []core.Patch `json:"patches"`
	Altered    bool         `json:"altered,omitzero"` // texts of the answer were changed for the record: secrets hidden, or what is not UTF-8
	Replayable bool         `json:"replayable"`       // nothing was cut
	Cut        []string     `json:"cut,omitzero"`     // what was left out to keep the bound; empty for nothing
}

// Micros is a duration in microseconds.
type Micros int64

// MicrosOf rounds a duration down.
func MicrosOf(d time.Duration) Micros { return Micros(d.Microseconds()) }

// Request identifies the body that was decided on. It is not in the record, since objects may hold secrets.
type Request struct {
	Digest string `json:"digest"` // "sha256:hex"
	Bytes  int    `json:"bytes"`
}

// Plan is the plan of a request with the trust that it was made under.
type Plan struct {
	Policy  string              `json:"policy"`
	Images  []core.PlannedImage `json:"images"`
	Tasks   []Task              `json:"tasks"`
	Demands map[string]Demand   `json:"demands,omitzero"` // by identity; those that tasks name
	Stores  []Store             `json:"stores,omitzero"`  // those that statements name, where signatures were looked at
	Plugins string              `json:"plugins,omitzero"` // revision of the installed plugins
	Limits  verification.Limits `json:"limits"`
}

// Task is a verification.Task. What tasks share stands in the plan.
type Task struct {
	Reference image.Reference `json:"reference"`
	Policy    string          `json:"policy"`
	Statement trust.Statement `json:"statement"`
	Revision  string          `json:"revision"`
	Demands   []string        `json:"demands,omitzero"`   // identities, in the request's order
	Platforms []string        `json:"platforms,omitzero"` // that the statement and the request choose together; empty for none
}

// Demand is a verification.AttestationType.
type Demand struct {
	Name   string              `json:"name"`
	Select verification.Select `json:"select"`
	Any    []Condition         `json:"any,omitzero"`
	All    []Condition         `json:"all,omitzero"`
}

// Condition is a condition.Condition. Key and value are JSON texts as they were sent, since canonical JSON rounds numbers.
type Condition struct {
	Key      string `json:"key"`
	Operator string `json:"operator"`
	Value    string `json:"value,omitzero"`
	Message  string `json:"message,omitzero"`
}

// Store is a trust store.
type Store struct {
	Type         string   `json:"type"`
	Name         string   `json:"name"`
	Problem      string   `json:"problem,omitzero"`
	Certificates [][]byte `json:"certificates,omitzero"` // DER
}

// How says where the facts of a task come from.
type How string

// Where they come from. Only those that were gathered have evidence; of the others the facts are what was decided on.
const (
	WorkedOut  How = "worked out" // from the lookups in the record
	Kept       How = "kept"       // from an earlier decision, whose outcome was kept
	Shared     How = "shared"     // from a decision at the same time, which did the work
	Unfinished How = "unfinished" // there was no outcome in time; the facts say why
)

// Gathered is what was found out for a task.
type Gathered struct {
	How  How               `json:"how"`
	From string            `json:"from,omitzero"` // id of the decision that the facts come from, for Kept and Shared, where it is known
	Fact verification.Fact `json:"fact"`

	Asked []Asked `json:"asked,omitzero"` // the lookups, as they were answered
}

// Asked is a lookup with its answer.
type Asked struct {
	Lookup verification.Lookup `json:"lookup"`
	Answer verification.Answer `json:"answer"`
	Report *Report             `json:"report,omitzero"` // of a signature that was verified for this decision; nil for others
	Kept   bool                `json:"kept,omitzero"`   // the answer was there already
	After  Micros              `json:"afterMicros"`     // from the request to the question
	Took   Micros              `json:"tookMicros"`
}

// Report is a verification.Report.
type Report struct {
	verification.Report
	Certificates [][]byte `json:"certificates,omitzero"` // of the signer's chain, from the leaf; DER
}

// NewReport is the form of a report in a record. A time that no calendar has, which anyone may write into a signature, is brought
// within it.
func NewReport(report verification.Report) *Report {
	for _, at := range []*time.Time{&report.SignedAt, &report.Expiry} {
		switch {
		case at.Before(firstTime):
			*at = firstTime
		case at.After(lastTime):
			*at = lastTime
		}
	}
	return &Report{Report: report, Certificates: encoded(report.Chain)}
}

// The times between which JSON has a form for a time (RFC 3339).
var (
	firstTime = time.Time{}
	lastTime  = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
)

// Whole is the report with the signer's chain.
func (r *Report) Whole() verification.Report {
	report := r.Report
	report.Chain = decoded(r.Certificates)
	return report
}

func encoded(certificates []*x509.Certificate) (der [][]byte) {
	for _, certificate := range certificates {
		der = append(der, certificate.Raw)
	}
	return der
}

// decoded keeps of a certificate that cannot be parsed its bytes, by which certificates are compared.
func decoded(der [][]byte) (certificates []*x509.Certificate) {
	for _, raw := range der {
		certificate, err := x509.ParseCertificate(raw)
		if err != nil {
			certificate = &x509.Certificate{Raw: raw}
		}
		certificates = append(certificates, certificate)
	}
	return certificates
}

// OutcomeOf is a verdict in a word.
func OutcomeOf(class reason.Class) string {
	switch class {
	case reason.Admitted:
		return "admitted"
	case reason.Busy:
		return "busy"
	case reason.Failed:
		return "failed"
	case reason.TimedOut:
		return "timed out"
	}
	return "denied"
}
