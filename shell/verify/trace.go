package verify

import (
	"strings"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/tracing"
)

// endImage ends the span of an image with what was found out about it. Without spans of lookups in it, that was cached, or
// worked out for another request at the same time.
func endImage(span *tracing.Span, c *course, fact *verification.Fact) {
	if span == nil {
		return
	}
	span.Text("image", c.task.Ref.String())
	span.Text("image.digest", fact.Digest)
	span.Text("trust_policy", c.task.Policy)
	span.Text("trust_policy.statement", c.task.Statement.Name)
	span.Text("outcome", outcome(verification.Check(c.task, *fact, c.now)))
	span.End()
}

// endLookup ends the span of a lookup with whom it asked and what came of it.
func (c course) endLookup(span *tracing.Span, lookup verification.Lookup, answer verification.Answer) {
	if span == nil {
		return
	}
	host, repository, _ := strings.Cut(lookup.Repository, "/")
	span.Text("server.address", host)
	span.Text("repository", repository)
	span.Text("subject", lookup.Subject)
	span.Text("artifact_type", lookup.Type)
	found := answer.Document.Finding
	if answer.Failure != nil {
		found = &answer.Failure.Finding
	} else if lookup.Kind == verification.Signature && !answer.Signature.Fact.Verified {
		found = answer.Signature.Rejected
	}
	span.Text("outcome", outcome(found))
	if found != nil && (found.Code.Class() == reason.Failed || found.Code.Class() == reason.TimedOut) {
		span.Failed(string(found.Code))
	}
	span.End()
}

// outcome names what was found wrong, by its code.
func outcome(found *reason.Finding) string {
	if found == nil {
		return "ok"
	}
	return string(found.Code)
}
