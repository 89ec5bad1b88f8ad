package function

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/records"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify"
)

// headerDecision is the header of an answer with the id of its decision, and headerRecord that of a request whose decision is
// to be recorded even if it comes from what was kept.
const (
	headerDecision = "Decision-Id"
	headerRecord   = "Record-Decision"
)

// decisions has decisions recorded, and lets those read the records who may. A nil one records nothing.
type decisions struct {
	recorder *records.Recorder // nil records nothing
	every    uint64            // of the decisions that come from what was kept and admit, every so many-th is recorded; 0 for none
	kept     atomic.Uint64     // of these
	replica  string
	readers  CallerReview // nil for nobody
	open     bool         // everyone may read
	reading  chan struct{}
}

func newDecisions(settings Settings, readers CallerReview, key func() *certificates.Pair, log *slog.Logger) (d *decisions, err error) {
	replica, keep := hostname(), settings.DecisionsInMemory
	if readers == nil && !settings.DecisionsWithoutToken {
		keep = 0 // nobody may read it
	}
	d = &decisions{every: uint64(settings.RecordKept), replica: replica, readers: readers, open: settings.DecisionsWithoutToken, reading: make(chan struct{}, maxReading)}
	d.recorder, err = records.Open(records.Options{
		Keep: keep, File: settings.DecisionLog, FileBytes: int64(settings.DecisionLogMaxBytes),
		Output: os.Stdout, SinkURL: settings.DecisionSink, Source: "/" + userAgent + "/" + replica, Log: log,
		Key: key, Replica: replica,
	})
	return d, err
}

// hostname is the pod's name.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// decision is a decision with all that it was made on.
type decision struct {
	id, endpoint, caller string
	background           bool
	asked                planned
	now                  time.Time // of the request, for which was decided
	took                 time.Duration
	facts                []verification.Fact
	recording            *verify.Recording // nil where nothing is recorded
	verdict              core.Verdict
}

// records tells whether decisions are recorded.
func (d *decisions) records() bool { return d != nil && d.recorder != nil }

// begin prepares a decision to be recorded, if any are.
func (d *decisions) begin(id string) *verify.Recording {
	if !d.records() {
		return nil
	}
	return &verify.Recording{Decision: id}
}

// offer has a decision recorded, unless it comes from what was kept and admits.
func (d *decisions) offer(made *decision, header http.Header) {
	if made.recording == nil || made.facts == nil || !d.wants(made, header) {
		return
	}
	kept := *made                                                                     // here, so that those that are not recorded are not copied
	kept.asked.request.Attestations, kept.asked.body = nil, digested(kept.asked.body) // the plan has what is demanded
	d.recorder.Offer(kept.weight(), func() record.Record { return kept.record(d.replica) })
}

func (d *decisions) wants(made *decision, header http.Header) bool {
	fresh := func(course verify.Course) bool {
		return course.How != record.Kept && (course.How != record.WorkedOut || len(course.Asked) > 0)
	}
	if !made.verdict.Verified || slices.ContainsFunc(made.recording.Tasks, fresh) || header.Get(headerRecord) != "" {
		return true
	}
	return d.every > 0 && d.kept.Add(1)%d.every == 0
}

// weight is what a decision holds in memory, bytes.
func (d decision) weight() int {
	const each = 2000 // for what has no length of its own
	weight := each + d.asked.request.Weight() + each*len(d.asked.plan.Tasks)
	for _, fact := range d.facts {
		weight += fact.Weight()
	}
	for _, course := range d.recording.Tasks {
		for _, asked := range course.Asked {
			weight += each + asked.Answer.Weight()
			if asked.Report != nil {
				weight += each + lo.SumBy(record.NewReport(*asked.Report).Certificates, func(der []byte) int { return 3 * len(der) })
			}
		}
	}
	return weight
}

// record is the form of a decision in a record.
func (d decision) record(replica string) record.Record {
	made := record.Record{
		ID: d.id, Time: d.now.Round(0), Took: record.MicrosOf(d.took), Replica: replica, Endpoint: d.endpoint, Caller: d.caller, Background: d.background,
		Request: record.Request{Digest: d.asked.body.digest, Bytes: d.asked.body.size}, Object: d.asked.request.Named(),
		Plan:     record.NewPlan(d.asked.plan, d.recording.Plugins, d.recording.Limits, func(i int) bool { return d.recording.Tasks[i].How == record.WorkedOut }),
		Evidence: make([]record.Gathered, len(d.facts)),
		Outcome:  record.OutcomeOf(d.verdict.Class), Verdict: d.verdict, Patches: core.Patches(d.verdict),
	}
	for i, fact := range d.facts {
		course := d.recording.Tasks[i]
		made.Evidence[i] = record.Gathered{How: cmp.Or(course.How, record.Unfinished), From: course.From, Fact: fact}
		for _, asked := range course.Asked {
			told := record.Asked{
				Lookup: asked.Lookup, Answer: asked.Answer, Kept: asked.Kept,
				After: record.MicrosOf(asked.Began.Sub(d.now)), Took: record.MicrosOf(asked.Took),
			}
			if asked.Report != nil {
				told.Report = record.NewReport(*asked.Report)
			}
			made.Evidence[i].Asked = append(made.Evidence[i].Asked, told)
		}
	}
	return made
}

// askedBody is the body of a request: small ones as they are until the digest is asked for, which most never are.
type askedBody struct {
	text   []byte
	digest string
	size   int
}

// maxAskedBody bounds a body that stays in memory until its request is answered, bytes.
const maxAskedBody = 8 << 10

func newAskedBody(text []byte, recorded bool) askedBody {
	body := askedBody{text: text, size: len(text)}
	switch {
	case !recorded:
		return askedBody{}
	case len(text) > maxAskedBody:
		return digested(body)
	}
	return body
}

func digested(body askedBody) askedBody {
	if body.digest == "" {
		sum := sha256.Sum256(body.text)
		body.digest, body.text = "sha256:"+hex.EncodeToString(sum[:]), nil
	}
	return body
}

// errNoReaders refuses to show records where nobody is named who may read them.
var errNoReaders = errors.New("nobody may read decisions here; name users in --decisionUsers, which needs a cluster, or set --decisionsWithoutToken")

// Bounds on GET /decisions: records of one answer, and such answers at once, each of which may be as large as the memory for records.
const (
	maxRecent  = 500
	maxReading = 2
)

// recent answers with records from memory, the newest first; serves GET /decisions.
func (d *decisions) recent(w http.ResponseWriter, r *http.Request) {
	if !d.mayRead(w, r) {
		return
	}
	query := r.URL.Query()
	filter := records.Filter{Namespace: query.Get("namespace"), Outcome: query.Get("outcome"), Most: 50}
	if text := query.Get("limit"); text != "" {
		most, err := strconv.Atoi(text)
		if err != nil || most < 1 || most > maxRecent {
			sendText(w, http.StatusBadRequest, "limit is "+strconv.Quote(text)+"; it is a number from 1 to "+strconv.Itoa(maxRecent))
			return
		}
		filter.Most = most
	}
	select {
	case d.reading <- struct{}{}:
		defer func() { <-d.reading }()
	default:
		sendText(w, http.StatusServiceUnavailable, "others are reading decisions; try again")
		return
	}
	sendJSON(answerWriter{w}, http.StatusOK, map[string]any{"decisions": lo.Map(d.recorder.Recent(filter), func(line []byte, _ int) json.RawMessage { return line })})
}

// one answers with one record as it was encoded; serves GET /decisions/{id}.
func (d *decisions) one(w http.ResponseWriter, r *http.Request) {
	if !d.mayRead(w, r) {
		return
	}
	line, ok := d.recorder.Find(r.PathValue("id"))
	if !ok {
		sendText(w, http.StatusNotFound, "this replica does not have that decision in memory; ask the others, or look in the log of decisions")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(line) // an error means that the caller closed the connection
}

// mayRead tells whether a caller may read records; if not, it has answered. Records tell of all namespaces, so a caller who may
// ask for verifications may not read them by that alone.
func (d *decisions) mayRead(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case !d.open && d.readers == nil:
		sendText(w, http.StatusForbidden, errNoReaders.Error())
		return false
	case !d.records():
		sendText(w, http.StatusNotFound, "no decisions are recorded here; see --decisionsInMemory")
		return false
	case d.open:
		return true
	}
	if _, err := d.readers.Review(r.Context(), r.Header.Get("Authorization")); err != nil {
		sendText(w, statusOfError(err), err.Error())
		return false
	}
	return true
}
