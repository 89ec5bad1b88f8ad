package function

import (
	"context"
	"net/http"
	"time"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/tracing"
)

// traced begins the trace of a request, with the time that authentication has taken. The caller's traceparent counts only if
// the caller is authenticated; user is "" for others.
func (f *Function) traced(ctx context.Context, r *http.Request, path, user string, began time.Time) (context.Context, *tracing.Span) {
	if f.tracing == nil {
		return ctx, nil
	}
	header := r.Header
	if user == "" {
		header = nil
	}
	ctx, span := f.tracing.Request(ctx, r.Method+" "+path, header, began)
	span.Text("http.request.method", r.Method)
	span.Text("http.route", path)
	span.Text("enduser.id", user)
	if user != "" {
		_, authentication := tracing.StartAt(ctx, "authenticate", "", began)
		authentication.End()
	}
	return ctx, span
}

// decided decides on a plan, within a span.
func decided(ctx context.Context, plan core.Plan, facts []verification.Fact, now time.Time) core.Verdict {
	_, span := tracing.Start(ctx, "decide", "")
	defer span.End()
	verdict := core.Decide(plan, facts, now)
	span.Text("trust_policy", plan.Policy)
	span.Flag("verified", verdict.Verified)
	return verdict
}

// trace ends a request's span with what was answered.
func (c *call) trace(status int, verdict core.Verdict, err error) {
	if c.span == nil {
		return
	}
	c.span.Number("http.response.status_code", status)
	c.span.Text("decision", c.id)
	c.span.Flag("verified", verdict.Verified)
	c.span.Flag("background", c.background)
	c.span.Text("decision", c.id)
	c.span.Number("images", len(verdict.Results))
	wrong, found := lo.Find(verdict.Results, func(r core.Result) bool { return !r.Verified })
	if found {
		c.span.Text("code", string(wrong.Code))
	}
	switch {
	case err != nil:
		c.span.Failed(http.StatusText(status))
	case found && wrong.Code.Class() != reason.Denied:
		c.span.Failed(string(wrong.Code))
	}
	c.span.End()
}
