package function

import (
	"strconv"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/console"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// overviewPage is what a reader should see first of all the others.
func overviewPage(v view) []g.Node {
	refused, unfit, expiring := quiet("None of the recorded decisions."), quiet("Nothing that the auditor has looked at."), quiet("No trust store has a certificate.")
	switch {
	case v.Decisions.Problem != "":
		refused = note(v.Decisions.Problem)
	case len(v.Listed.Items) > 0:
		refused = g.Group{decisionList(v.Listed.Items), h.P(anchor("/decisions", g.Text("All decisions")))}
	}
	switch {
	case v.Running.Problem != "":
		unfit = note(v.Running.Problem)
	case len(v.Uses.Items) > 0:
		unfit = g.Group{useList(v.Uses.Items), h.P(anchor("/running", g.Text("All that runs")))}
	}
	switch {
	case v.Trust.Problem != "":
		expiring = note(v.Trust.Problem)
	case len(v.Trust.First) > 0:
		expiring = g.Group{certificateLines(v.Trust.First, func(c certificateView) g.Node {
			return g.Group{h.P(h.Class("store"), g.Text(c.Store)), certificateParts(c.Certificate)}
		}), h.P(anchor("/stores", g.Text("All trust stores")))}
	}
	return []g.Node{
		h.H1(g.Text("Overview")),
		overviewTiles(v),
		h.Div(h.Class("columns brief"),
			section("refused", "Denied, or not decided", refused),
			section("unfit", "Runs, and would be denied", unfit),
		),
		section("expiring", "Expires first", expiring),
	}
}

// overviewTiles are the figures of the overview.
func overviewTiles(v view) g.Node {
	trusted, first := badge(console.Good, "all can be used"), badge(console.Neutral, "no certificates")
	decided, runs := badge(console.Neutral, "of "+strconv.Itoa(len(v.Decisions.All))+" recorded decisions"), badge(console.Neutral, strconv.Itoa(v.Running.Sum.Pass)+" verified")
	switch unready := v.Trust.Unready(); {
	case v.Trust.Problem != "":
		trusted = badge(console.Doubt, "cannot be read")
	case unready > 0:
		trusted = badge(console.Bad, strconv.Itoa(unready)+" resources cannot be used")
	}
	if len(v.Trust.First) > 0 {
		first = badge(v.Trust.First[0].State, "first: "+v.Trust.First[0].Words())
	}
	if v.Decisions.Problem != "" {
		decided = badge(console.Neutral, "not known here")
	}
	if v.Running.Problem != "" {
		runs = badge(console.Neutral, "not known here")
	}
	tile := func(to address, problem string, number int, what string, says g.Node) g.Node {
		figure := strconv.Itoa(number)
		if problem != "" {
			figure = "?"
		}
		return h.Li(h.Class("tile"), anchor(to, figureOf(figure, what)...), space, says)
	}
	return h.Ul(h.Class("tiles"),
		tile("/policies", v.Trust.Problem, len(v.Trust.Policies), "trust policies", trusted),
		tile("/stores", v.Trust.Problem, len(v.Trust.Stores), "trust stores", first),
		tile("/decisions", v.Decisions.Problem, v.Decisions.Denied, "denied", decided),
		tile("/running", v.Running.Problem, v.Running.Sum.Fail, "run and would be denied", runs),
	)
}

// figureOf is a figure with what it counts.
func figureOf(figure, what string) []g.Node {
	return []g.Node{h.Span(h.Class("figure"), g.Text(figure)), space, h.Span(h.Class("what"), g.Text(what))}
}

// section is a part of a page, named by its heading.
func section(id, heading string, content ...g.Node) g.Node {
	return h.Section(h.Aria("labelledby", id), h.H2(h.ID(id), g.Text(heading)), g.Group(content))
}

// certificateLines shows certificates below the axis of their time lines.
func certificateLines[T any](list []T, one func(T) g.Node) g.Node {
	return h.Div(h.Class("lines"), axis(), h.Ul(h.Class("plain"), g.Map(list, func(item T) g.Node {
		return h.Li(h.Class("certificate"), one(item))
	})))
}

func policiesPage(v view) []g.Node {
	return trustPage(v, "Trust policies", "cards", "trust policies", v.Policies, func(p policyView) g.Node {
		return h.Li(h.Class("card"), standingParts(p.Name, p.Resource, p.standing), g.Map(p.Statements, statementList),
			g.If(p.More > 0, quiet("and "+strconv.Itoa(p.More)+" more statements")))
	})
}

func storesPage(v view) []g.Node {
	certificate := func(c console.Certificate) g.Node {
		return g.Group{certificateParts(c), h.P(h.Class("quiet fingerprint"), g.Text("SHA-256 "+c.Fingerprint))}
	}
	return trustPage(v, "Trust stores", "cards wide", "trust stores", v.Stores, func(s storeView) g.Node {
		return h.Li(h.Class("card"), standingParts(s.Name, s.Resource, s.standing),
			g.Iff(len(s.Certificates) > 0, func() g.Node { return certificateLines(s.Certificates, certificate) }),
			g.If(s.More > 0, quiet("and "+strconv.Itoa(s.More)+" more certificates, which last longer")))
	})
}

// trustPage lists trust resources of a kind.
func trustPage[T any](v view, title, class, what string, list console.Page[T], card func(T) g.Node) []g.Node {
	if v.Trust.Problem != "" {
		return []g.Node{h.H1(g.Text(title)), note(v.Trust.Problem)}
	}
	return []g.Node{
		h.H1(g.Text(title)),
		g.Map(v.Trust.Problems, func(problem string) g.Node { return h.P(h.Class("note bad"), g.Text(problem)) }),
		h.P(h.Class("sum"), g.Textf("%d %s; what cannot be used comes first, then what expires first.", list.Total, what)),
		h.Ul(h.Class(class), g.Map(list.Items, card)),
		pager(v, list.Number, list.Pages),
	}
}

// standingParts say of a resource whether it can be used.
func standingParts(name, resource string, s standing) g.Group {
	return g.Group{
		h.H2(g.Text(name)),
		h.P(h.Class("lead"), badge(s.State, s.Word), space, g.If(s.Days != "", h.Span(h.Class("days"), g.Text(s.Days)))),
		h.P(g.Text(s.Message)),
		quiet("Resource " + resource),
	}
}

func statementList(s shelltrust.PolicyStatement) g.Node {
	orNone := func(list []string) string {
		if len(list) == 0 {
			return "none"
		}
		return few(list)
	}
	return h.Dl(h.Class("statement"),
		fact("Statement", s.Name),
		fact("Level", s.SignatureVerification.Level),
		fact("Repositories", few(s.RegistryScopes)),
		fact("Trust stores", orNone(s.TrustStores)),
		fact("Identities", orNone(s.TrustedIdentities)),
	)
}

func decisionsPage(v view) []g.Node {
	if v.Decisions.Problem != "" {
		return []g.Node{h.H1(g.Text("Decisions")), note(v.Decisions.Problem)}
	}
	return []g.Node{
		h.H1(g.Text("Decisions")),
		filterForm(v),
		h.P(h.Class("sum"), g.Textf("%d of %d recorded decisions; denials come first, and the newest first. %s", v.Listed.Total, len(v.Decisions.All), v.Decisions.From)),
		listOrNone(v.Listed.Items, decisionList),
		pager(v, v.Listed.Number, v.Listed.Pages),
	}
}

func runningPage(v view) []g.Node {
	if v.Running.Problem != "" {
		return []g.Node{h.H1(g.Text("What runs")), note(v.Running.Problem)}
	}
	tile := func(number int, what string) g.Node {
		return h.Li(h.Class("tile"), g.Group(figureOf(strconv.Itoa(number), what)))
	}
	sum := v.Running.Sum
	return []g.Node{
		h.H1(g.Text("What runs")),
		h.Ul(h.Class("tiles"),
			tile(sum.Fail, "would be denied"), tile(sum.Error, "could not be verified"), tile(sum.Warn, "run another digest than their tag"),
			tile(sum.Skip, "are not verified by policy"), tile(sum.Pass, "are verified")),
		filterForm(v),
		h.P(h.Class("sum"), g.Textf("%d of %d findings, the worst first. %s", v.Uses.Total, len(v.Running.All), v.Running.From)),
		listOrNone(v.Uses.Items, useList),
		pager(v, v.Uses.Number, v.Uses.Pages),
	}
}

// listOrNone shows what a filter leaves.
func listOrNone[T any](items []T, list func([]T) g.Node) g.Node {
	if len(items) == 0 {
		return quiet("The filter leaves none.")
	}
	return list(items)
}

func decisionList(list []console.Decision) g.Node {
	return h.Ul(h.Class("rows"), g.Map(list, func(d console.Decision) g.Node {
		return h.Li(h.Class("row"),
			h.P(h.Class("lead"), badge(d.State(), d.Outcome), space, anchor(decisionAddress(d.ID), g.Text(objectName(d.Object))), space, moment(d.Time, stamp)),
			h.Ul(h.Class("images"), g.Map(d.Shown(), func(r core.Result) g.Node {
				return h.Li(h.Code(g.Text(r.Requested)), space, h.Strong(g.Text(string(r.Code))), space, g.Text(r.Reason))
			}), g.If(d.More() > 0, h.Li(h.Class("quiet"), g.Textf("and %d more images", d.More())))),
		)
	}))
}

func useList(list []console.Use) g.Node {
	return h.Ul(h.Class("rows"), g.Map(list, useRow))
}

func useRow(u console.Use) g.Node {
	pods := u.Pods + " pods"
	if u.Pods == "1" {
		pods = "1 pod"
	}
	var code g.Node
	if u.Code != "" {
		code = g.Group{h.Strong(g.Text(u.Code)), space}
	}
	return h.Li(h.Class("row"),
		h.P(h.Class("lead"), badge(u.State(), string(u.Result)), space, h.Strong(g.Text(u.Namespace)), g.Text(" "+u.Workload+", container "+u.Container+" "), h.Span(h.Class("quiet"), g.Text(pods))),
		h.Ul(h.Class("images"), h.Li(h.Code(g.Text(u.Image)), space, code, g.Text(u.Message))),
		h.P(h.Class("quiet"), g.Text("Trust policy "+u.TrustPolicy+", looked at "), moment(u.At, stamp)),
	)
}

func decisionPage(d decisionView) []g.Node {
	caller, endpoint := d.Caller, d.Endpoint
	if caller == "" {
		caller = "callers are not authenticated"
	}
	if d.Replica != "" {
		endpoint += " of " + d.Replica
	}
	return []g.Node{
		h.H1(g.Text("Decision "), h.Span(h.Class("id"), g.Text(d.ID))),
		h.P(h.Class("lead"), badge(d.State, d.Outcome), space, moment(d.Time, stamp), space, h.Span(h.Class("quiet"), g.Text("after "+millis(d.Took)))),
		h.Dl(h.Class("facts"),
			fact("Object, as the request says", objectName(d.Object)),
			fact("Asked by", caller),
			fact("Trust policy", d.Plan.Policy),
			fact("Answered at", endpoint),
			g.Iff(len(d.Cut) > 0, func() g.Node { return fact("The record lacks", few(d.Cut)) }),
		),
		section("chain", "The chain",
			quiet("From each image to what vouches for it. A part with a red edge is where it breaks."),
			h.Ul(h.Class("tree"), h.TabIndex("0"), h.Aria("labelledby", "chain"), g.Map(d.Picture, chainNode))),
		section("words", "In words",
			h.Details(h.Summary(g.Text("All reasons, as the command "), h.Code(g.Text("why")), g.Text(" prints them")), h.Pre(h.TabIndex("0"), g.Text(d.Why)))),
	}
}

// chainNode is a part of a decision's chain with those that it rests on.
func chainNode(n console.Node) g.Node {
	return h.Li(h.Class("node"),
		h.Div(h.Class("box "+string(n.State)),
			h.P(h.Class("kind"), g.Text(n.Kind)),
			h.P(h.Class("title"), g.Text(n.Title)),
			g.If(n.Word != "", h.P(h.Class("word"), g.Text(n.Word))),
			g.If(len(n.Texts) > 0, h.Ul(h.Class("texts"), g.Map(n.Texts, func(text string) g.Node { return h.Li(g.Text(text)) }))),
			g.If(n.From != "", h.P(g.Text("Worked out for decision "), anchor(decisionAddress(n.From), g.Text(n.From)))),
		),
		g.Iff(len(n.Next) > 0, func() g.Node { return h.Ul(g.Map(n.Next, chainNode)) }),
	)
}
