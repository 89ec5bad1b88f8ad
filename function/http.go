package function

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/shell/kube"
	"github.com/nirmata/kyverno-notation-venafi/shell/records"
	"github.com/nirmata/kyverno-notation-venafi/shell/tracing"
)

// answerTime is how long a caller may take to read its answer; it keeps its seat meanwhile.
const answerTime = 5 * time.Second

// The paths at which images are asked about.
const (
	pathCheck  = "/checkimages"
	pathVerify = "/verify"
)

// Handler answers the HTTP contract.
func (f *Function) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathCheck, f.serve(pathCheck, f.answerCheck))
	mux.HandleFunc("POST "+pathVerify, f.serve(pathVerify, f.answerVerify))
	mux.Handle("POST /events", f.events)
	mux.HandleFunc("POST /{$}", f.root)
	mux.HandleFunc("GET /decisions", f.decisions.recent)
	mux.HandleFunc("GET /decisions/{id}", f.decisions.one)
	mux.HandleFunc("GET /health/liveness", func(w http.ResponseWriter, _ *http.Request) { sendText(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /health/readiness", f.readiness)
	mux.Handle("GET /metrics", f.metrics.handler())
	return mux
}

func (f *Function) readiness(w http.ResponseWriter, _ *http.Request) {
	if err := f.Ready(); err != nil {
		sendText(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	if lacks := f.plugins.Unconfined(); lacks != "" {
		sendText(w, http.StatusOK, "ready; plugins run without "+lacks)
		return
	}
	sendText(w, http.StatusOK, "ready")
}

// greeting is what a request to the root is told that is no CloudEvent. It depends on nobody's rights and on none of the request's
// content.
const greeting = `kyverno-notation-venafi is ready. To have images verified, send POST /verify {"object": WORKLOAD, "trustPolicy": "NAME"}, ` +
	`where WORKLOAD is a Kubernetes object with containers. CloudEvents about trust are taken here and at /events.` + "\n"

// root takes events, and tells whoever sends something else what to send: 200 when the service is ready, since func shows the body of
// no other status, or else 503.
func (f *Function) root(w http.ResponseWriter, r *http.Request) {
	switch err := f.Ready(); {
	case saysEvent(r.Header):
		f.events.ServeHTTP(w, r)
	case err != nil:
		sendText(w, http.StatusServiceUnavailable, err.Error())
	default:
		sendText(w, http.StatusOK, greeting)
	}
}

// saysEvent is true for a request that claims to be a CloudEvent, in any of the modes of the HTTP protocol binding, well-formed or not.
func saysEvent(header http.Header) bool {
	for name := range header {
		if strings.HasPrefix(name, "Ce-") {
			return true
		}
	}
	return strings.HasPrefix(strings.ToLower(header.Get("Content-Type")), "application/cloudevents")
}

// answer writes a verdict in the form of one endpoint, with the id of the decision, and gives the status.
type answer func(w http.ResponseWriter, r *http.Request, verdict core.Verdict, id string) int

// serve decides on a request, answers it, logs one line and counts it. All lookups end with the request's timeout.
func (f *Function) serve(path string, answer answer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		ctx := &deadline{Context: r.Context(), at: start.Add(f.settings.RequestTimeout)}
		defer ctx.release()
		call := call{began: start, decision: decision{id: records.NewID(start), endpoint: path}}
		w.Header().Set(headerDecision, call.id)
		defer func() { call.release() }() // a closure, since decide sets what to release
		err := f.decide(ctx, w, r, path, &call)
		call.took = time.Since(start)
		verdict := call.told()
		if err == nil {
			f.decisions.offer(&call.decision, r.Header) // before anyone knows its id
			f.recordDenial(&call)
		}
		w = answerWriter{w}
		var status int
		switch {
		case err == nil:
			status = answer(w, r, verdict, call.id)
		case path == pathVerify: // CEL policies can read nothing but JSON
			status = statusOfError(err)
			sendJSON(w, status, response{Message: err.Error(), Results: []core.Patch{}, Decision: call.id})
		default:
			status = statusOfError(err)
			sendText(w, status, err.Error())
		}
		took := time.Since(start)
		f.logRequest(ctx, r, &call, status, verdict, err, took)
		f.metrics.observe(path, &call, status, took, verdict)
		call.trace(status, verdict, err)
	}
}

// recordDenial has the denial of an admission recorded as an Event, if that is asked for. It does not wait.
func (f *Function) recordDenial(call *call) {
	if f.denials == nil || call.background || call.verdict.Verified {
		return
	}
	if notice, ok := core.NoticeOf(call.asked.request.Object, call.verdict, call.id); ok {
		f.denials.Tell(notice)
	}
}

// answerWriter writes an answer, for which it sets a deadline where the caller's connection may have to take some of it while
// the request has its seat: the server buffers smaller ones, and writes them when the request holds nothing any more.
type answerWriter struct{ http.ResponseWriter }

// buffered is what the server buffers of an answer that is written at once, bytes (bufferBeforeChunkingSize of net/http).
const buffered = 2 << 10

// Write is part of http.ResponseWriter.
func (w answerWriter) Write(part []byte) (int, error) {
	if len(part) > buffered {
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(answerTime))
	}
	return w.ResponseWriter.Write(part)
}

// call is a request that is being answered, and what it holds until then.
type call struct {
	decision
	began             time.Time
	span              *tracing.Span // of the whole request; nil where it is not traced
	seat              answerSeat
	releaseBackground func() // releases the seat of a background request; nil for none
}

// told is the verdict as it is told: a person who reads a denial learns which decision it was. The message of a scan stays the same
// from one scan to the next, since reports that change are written anew.
func (c *call) told() core.Verdict {
	verdict := c.verdict
	if verdict.Message != "" && !verdict.Verified && !c.background {
		verdict.Message += " (decision " + c.id + ")"
	}
	return verdict
}

func (c *call) release() {
	c.seat.release()
	if c.releaseBackground != nil {
		c.releaseBackground()
	}
}

// decide authenticates the caller, reads and plans the request, and decides on it. It sets in call what the request holds
// until it is answered.
func (f *Function) decide(ctx context.Context, w http.ResponseWriter, r *http.Request, path string, call *call) (err error) {
	if call.caller, err = f.authenticate(ctx, r, path); err != nil {
		return err
	}
	ctx, call.span = f.traced(ctx, r, path, call.caller, call.began)
	call.background = saysBackground(r.Header) || slices.Contains(f.settings.BackgroundUsers, call.caller)
	if call.background {
		if call.releaseBackground, err = f.limiter.acquireBackground(ctx); err != nil {
			return err
		}
	}
	if call.asked, err = f.readPlan(ctx, w, r); err != nil {
		return err
	}
	if call.seat, err = f.limiter.reserve(ctx, path, call.asked.plan, call.asked.request.Weight()+len(call.asked.body.text)); err != nil {
		return err
	}
	call.recording = f.decisions.begin(call.id)
	f.decideOn(ctx, &call.decision)
	return nil
}

// saysBackground tells whether a request says that nobody waits for its answer, by the urgency that RFC 9218, section 4.1,
// reserves for background tasks. Whoever says so harms only itself, so it is believed; anything else counts as an admission.
func saysBackground(header http.Header) bool {
	priority := header.Values("Priority")
	return len(priority) == 1 && priority[0] == "u=7"
}

// readPlan reads, parses and plans a request. It holds its read seat until the request is planned, since parsing takes
// more memory than the body.
func (f *Function) readPlan(ctx context.Context, w http.ResponseWriter, r *http.Request) (planned, error) {
	body, seat, err := f.limiter.read(ctx, w, r)
	if err != nil {
		return planned{}, err
	}
	defer seat.release()
	_, span := tracing.Start(ctx, "plan", "")
	defer span.End()
	asked, err := f.parseAndPlan(body)
	asked.body = newAskedBody(body, f.decisions.records())
	return asked, err
}

// authenticate reviews the caller's bearer token, which is neither logged nor put into an answer, and gives the caller's
// name; "" where callers are not authenticated.
func (f *Function) authenticate(ctx context.Context, r *http.Request, path string) (user string, err error) {
	if f.callers == nil || path == pathVerify && f.settings.VerifyWithoutToken {
		return "", nil
	}
	user, err = f.callers.Review(ctx, r.Header.Get("Authorization"))
	return user, f.explained(err)
}

// explained says what to write into the policy, since its author reads the error in the denial.
func (f *Function) explained(err error) error {
	switch {
	case errors.Is(err, kube.ErrUnauthenticated):
		return fmt.Errorf("%w; %s", err, f.proof())
	case errors.Is(err, kube.ErrForbidden):
		return fmt.Errorf("%w; name it in --allowedUsers, or: %s", err, f.proof())
	}
	return err
}

// proof says what a policy has to send.
func (f *Function) proof() string {
	account := "an apiCall sends a token of Kyverno's account by itself, for the audience " + strings.Join(f.settings.TokenAudiences, " or ")
	if f.settings.CallerSecret == "" {
		return account
	}
	return `in a CEL policy, give http.Post the headers {"Authorization": "Bearer " + string(base64.decode(string(globalContext.Get("kyverno-notation-venafi-caller", "token"))))}, ` +
		"and apply callers.yaml of the samples, by which Kyverno reads that token from the Secret " + f.settings.CallerSecret + "; " + account
}

// response is the body of a 200 of /checkimages: the patches that replace tags by verified digests.
type response struct {
	Verified bool         `json:"verified"`
	Message  string       `json:"message"`
	Results  []core.Patch `json:"results"`
	Decision string       `json:"decision,omitempty"` // its id
}

// plain is the response as encoding/json writes it, without its detours; false where a text in it is not plain.
func (a response) plain() (body []byte, ok bool) {
	body, ok = make([]byte, 0, 512), a.Results != nil
	text := func(member, value string) {
		ok = ok && isPlain(value)
		body = append(append(append(body, member...), value...), '"')
	}
	body = strconv.AppendBool(append(body, `{"verified":`...), a.Verified)
	text(`,"message":"`, a.Message)
	body = append(body, `,"results":[`...)
	for i, patch := range a.Results {
		if i > 0 {
			body = append(body, ',')
		}
		text(`{"name":"`, patch.Name)
		text(`,"path":"`, string(patch.Path))
		text(`,"image":"`, patch.Image)
		text(`,"op":"`, patch.Op)
		text(`,"value":"`, patch.Value)
		body = append(body, '}')
	}
	body = append(body, ']')
	if a.Decision != "" {
		text(`,"decision":"`, a.Decision)
	}
	return append(body, "}\n"...), ok
}

// isPlain is true only for texts that encoding/json writes as they are.
func isPlain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// verdictBody is a verdict as a body, with the id of the decision.
type verdictBody struct {
	core.Verdict
	Decision string `json:"decision"`
}

// answerCheck answers Kyverno's apiCall with patches, or with the text of a denial, which Kyverno shows to the user.
func (f *Function) answerCheck(w http.ResponseWriter, r *http.Request, verdict core.Verdict, id string) int {
	status := statusOfClass(verdict.Class)
	switch {
	case verdict.Verified:
		sendResponse(w, status, response{Verified: true, Message: verdict.Message, Results: core.Patches(verdict), Decision: id})
	case wantsJSON(r):
		sendJSON(w, status, verdictBody{verdict, id})
	default:
		sendText(w, status, verdict.Message)
	}
	return status
}

// answerVerify answers CEL policies, which decide on the body themselves.
func (f *Function) answerVerify(w http.ResponseWriter, _ *http.Request, verdict core.Verdict, id string) int {
	sendJSON(w, http.StatusOK, verdictBody{verdict, id})
	return http.StatusOK
}

func wantsJSON(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "application/json")
}

// statusOfClass and statusOfError are the only places that map outcomes to HTTP statuses.
func statusOfClass(class reason.Class) int {
	switch class {
	case reason.Admitted:
		return http.StatusOK
	case reason.Busy:
		return http.StatusServiceUnavailable
	case reason.Failed:
		return http.StatusBadGateway
	case reason.TimedOut:
		return http.StatusGatewayTimeout
	case reason.Rejected:
		return http.StatusBadRequest
	}
	return http.StatusNotAcceptable
}

func statusOfError(err error) int {
	var request *core.RequestError
	switch {
	case errors.As(err, &request) && request.Code == reason.RequestTooLarge:
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &request):
		return http.StatusBadRequest
	case errors.Is(err, kube.ErrUnauthenticated):
		return http.StatusUnauthorized
	case errors.Is(err, kube.ErrForbidden):
		return http.StatusForbidden
	}
	return http.StatusServiceUnavailable
}

// adviseRetry sets Retry-After on a 503.
func adviseRetry(w http.ResponseWriter, status int) {
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1") // seconds
	}
}

func sendText(w http.ResponseWriter, status int, text string) {
	adviseRetry(w, status)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // an error means that the caller closed the connection
}

func sendResponse(w http.ResponseWriter, status int, answer response) {
	body, ok := answer.plain()
	if !ok {
		sendJSON(w, status, answer)
		return
	}
	beginJSON(w, status)
	_, _ = w.Write(body) // an error means that the caller closed the connection
}

// beginJSON writes what stands before a body of JSON.
func beginJSON(w http.ResponseWriter, status int) {
	adviseRetry(w, status)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
}

func sendJSON(w http.ResponseWriter, status int, value any) {
	beginJSON(w, status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value) // an error means that the caller closed the connection
}

// maxLogged is how many images the log line of a request lists.
const maxLogged = 20

// loggedImage is an image in the log line of a request.
type loggedImage struct {
	Image  string      `json:"image"`
	Digest string      `json:"digest"`
	Code   reason.Code `json:"code"`
	Reason string      `json:"reason,omitempty"` // why it was not verified
}

// loggedResults are the results that the log line of a request lists; those that were not verified come first.
func loggedResults(results []core.Result) []core.Result {
	if len(results) <= maxLogged {
		return results
	}
	admitted, denied := lo.FilterReject(results, func(r core.Result, _ int) bool { return r.Verified })
	return append(denied, admitted...)[:maxLogged]
}

// logRequest writes one log line for a request, with the image and the reason code of each result.
func (f *Function) logRequest(ctx context.Context, r *http.Request, call *call, status int, verdict core.Verdict, err error, took time.Duration) {
	if !f.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	line := slog.NewRecord(time.Now(), slog.LevelInfo, "request", 0) // a logger would look up the line of code, which nobody logs
	line.AddAttrs(
		slog.String("path", r.URL.Path),
		slog.Int("status", status),
		slog.String("decision", call.id),
		slog.Bool("verified", verdict.Verified),
		slog.Float64("durationMs", float64(took.Microseconds())/1000),
	)
	if call.background {
		line.AddAttrs(slog.Bool("background", true))
	}
	if trace := call.span.TraceID(); trace != "" {
		line.AddAttrs(slog.String("trace", trace))
	}
	if err != nil {
		line.AddAttrs(slog.String("error", err.Error()))
	}
	logged := loggedResults(verdict.Results)
	images := make([]loggedImage, len(logged))
	for i, result := range logged {
		images[i] = loggedImage{Image: reason.Clip(result.Requested, reason.MaxName), Digest: result.Digest, Code: result.Code}
		if !result.Verified {
			images[i].Reason = reason.Clip(result.Reason, reason.MaxWords)
		}
	}
	line.AddAttrs(slog.Any("images", images))
	if omitted := len(verdict.Results) - len(logged); omitted > 0 {
		line.AddAttrs(slog.Int("imagesNotLogged", omitted))
	}
	_ = f.log.Handler().Handle(ctx, line) // there is nowhere else to tell that the log cannot be written
}
