package function

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/console"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
)

// The pages are made of components, which escape every text and every value of an attribute. A template engine calls methods by
// their names at run time; with one in the binary the linker must keep every exported method of every type that is used: 15 MB.

// address is a path of the console itself. Links and forms take nothing else, so no text of a stranger can become a scheme or
// a host. Make one from a constant, with decisionAddress or with view.link.
type address string

// decisionAddress is the page of a decision, whatever its id is.
func decisionAddress(id string) address { return address("/decisions/" + url.PathEscape(id)) }

// link is the address of a page of the list that the view shows, with its filter.
func (v view) link(page int) address {
	query := url.Values{}
	for name, text := range map[string]string{"namespace": v.Filter.Namespace, "image": v.Filter.Image, "code": v.Filter.Code} {
		if text != "" {
			query.Set(name, text)
		}
	}
	query.Set("page", strconv.Itoa(page))
	return address("/" + v.Page + "?" + query.Encode())
}

// anchor links to a page of the console.
func anchor(to address, content ...g.Node) g.Node {
	return h.A(h.Href(string(to)), g.Group(content))
}

// layout is a page as a whole.
func layout(v view) g.Node {
	return h.Doctype(h.HTML(h.Lang("en"),
		h.Head(
			h.Meta(h.Charset("utf-8")),
			h.Meta(h.Name("viewport"), h.Content("width=device-width, initial-scale=1")),
			h.Meta(h.Name("color-scheme"), h.Content("light dark")),
			h.TitleEl(g.Text(v.Title+" · kyverno-notation-venafi")),
			h.Link(h.Rel("stylesheet"), h.Href("/console.css")),
			h.Link(h.Rel("icon"), h.Href("/icon.svg"), h.Type("image/svg+xml")),
		),
		h.Body(
			h.A(h.Class("skip"), h.Href("#main"), g.Text("Skip to the content")),
			h.Header(h.Div(h.Class("bar"),
				h.P(h.Class("brand"), h.Img(h.Src("/icon.svg"), h.Alt(""), h.Width("32"), h.Height("32")), space, h.Span(g.Text("Image verification"))),
				h.Nav(h.Aria("label", "Pages"), h.Ul(
					v.entry("overview", "/", "Overview"),
					v.entry("policies", "/policies", "Trust policies"),
					v.entry("stores", "/stores", "Trust stores"),
					v.entry("decisions", "/decisions", "Decisions"),
					v.entry("running", "/running", "What runs"),
				)),
			)),
			h.Main(h.ID("main"), h.TabIndex("-1"), g.Group(v.content())),
			h.Footer(h.P(g.Text("As of "), moment(v.Now, stamp), g.Text(". Nothing can be changed here; load the page again to see what is new."))),
		),
	))
}

// entry is a page in the navigation, which tells where the reader is.
func (v view) entry(page string, to address, name string) g.Node {
	switch {
	case v.Page == page:
		return h.Li(anchor(to, h.Aria("current", "page"), g.Text(name)))
	case v.Page == "decision" && page == "decisions":
		return h.Li(anchor(to, h.Aria("current", "true"), g.Text(name)))
	}
	return h.Li(anchor(to, g.Text(name)))
}

// content is what differs from page to page.
func (v view) content() []g.Node {
	switch v.Page {
	case "overview":
		return overviewPage(v)
	case "policies":
		return policiesPage(v)
	case "stores":
		return storesPage(v)
	case "decisions":
		return decisionsPage(v)
	case "decision":
		return decisionPage(v.Decision)
	case "running":
		return runningPage(v)
	}
	return []g.Node{h.H1(g.Text(v.Title)), note(v.Problem), h.P(anchor("/", g.Text("To the overview")))}
}

// space separates two elements of one line.
var space = g.Text(" ")

func note(text string) g.Node  { return h.P(h.Class("note"), g.Text(text)) }
func quiet(text string) g.Node { return h.P(h.Class("quiet"), g.Text(text)) }

// badge shows a state, with a word for those who do not see its colour.
func badge(state console.State, word string) g.Node {
	return h.Span(h.Class("badge "+string(state)), g.Text(word))
}

// fact is an entry of a list of names and values.
func fact(name, value string) g.Node {
	return h.Div(h.Dt(g.Text(name)), h.Dd(g.Text(value)))
}

// moment is a time, for people as words has it.
func moment(at time.Time, words func(time.Time) string) g.Node {
	return h.Time(h.DateTime(at.UTC().Format(time.RFC3339)), g.Text(words(at)))
}

func stamp(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05 MST") }
func date(at time.Time) string  { return at.UTC().Format(time.DateOnly) }

func millis(took record.Micros) string {
	return strconv.FormatFloat(float64(took)/1000, 'f', 1, 64) + " ms"
}

// percent gives a part of a time line's length.
func percent(part int) string {
	return strconv.FormatFloat(float64(part)*100/console.LineLength, 'f', 1, 64) + "%"
}

// few names the first entries of a list, and how many more there are.
func few(list []string) string {
	const most = 10
	if len(list) > most {
		return strings.Join(list[:most], ", ") + fmt.Sprintf(" and %d more", len(list)-most)
	}
	return strings.Join(list, ", ")
}

// objectName names the object that a decision is about.
func objectName(o core.Object) string {
	return cmp.Or(o.String(), "a list of images")
}

// axis labels the time line of the certificates below it.
func axis() g.Node {
	return g.El("svg", h.Class("axis"), h.Width("100%"), h.Height("18"), h.Aria("hidden", "true"), g.Map(console.Marks(), func(m console.Mark) g.Node {
		return g.El("text", g.Attr("x", percent(m.At)), g.Attr("y", "13"), g.Attr("text-anchor", m.Anchor), g.Text(m.Label))
	}))
}

// timeLine is the bar of a certificate.
func timeLine(c console.Certificate) g.Node {
	bar := func(class, x, y, width, height string, more ...g.Node) g.Node {
		return g.El("rect", h.Class(class), g.Attr("x", x), g.Attr("y", y), h.Width(width), h.Height(height), g.Group(more))
	}
	return g.El("svg", h.Class("line"), h.Width("100%"), h.Height("20"), h.Role("img"), h.Aria("label", "Valid from "+date(c.NotBefore)+" to "+date(c.NotAfter)),
		bar("track", "0", "8", "100%", "4"),
		bar("bar "+string(c.State), percent(c.From), "4", percent(c.Length()), "12", g.Attr("rx", "2")),
		g.Map(console.Marks(), func(m console.Mark) g.Node { return bar("tick", percent(m.At), "0", "1", "20") }),
	)
}

// certificateParts show a certificate.
func certificateParts(c console.Certificate) g.Group {
	return g.Group{
		h.P(h.Class("subject"), g.Text(c.Subject)),
		h.P(h.Class("dates"), badge(c.State, c.Words()), space, moment(c.NotBefore, date), g.Text(" to "), moment(c.NotAfter, date), g.If(c.Beyond, g.Text(", beyond this line"))),
		timeLine(c),
	}
}

// pager leads through the pages of a list.
func pager(v view, number, pages int) g.Node {
	if pages <= 1 {
		return nil
	}
	step := func(there bool, page int, rel, name string) g.Node {
		if !there {
			return h.Span(g.Text(name))
		}
		return anchor(v.link(page), h.Rel(rel), g.Text(name))
	}
	return h.Nav(h.Class("pager"), h.Aria("label", "Pages of this list"),
		step(number > 1, number-1, "prev", "Back"), space,
		h.Span(g.Textf("Page %d of %d", number, pages)), space,
		step(number < pages, number+1, "next", "Next"),
	)
}

// filterForm chooses what a list shows.
func filterForm(v view) g.Node {
	list := address("/" + v.Page)
	field := func(label, name, value string) g.Node {
		return h.Label(g.Text(label+" "), h.Input(h.Name(name), h.Value(value), h.MaxLength(strconv.Itoa(console.MaxFilter)), h.AutoComplete("off")))
	}
	return h.Form(h.Class("filter"), h.Method("get"), h.Action(string(list)), h.Role("search"),
		field("Namespace", "namespace", v.Filter.Namespace), space,
		field("Image contains", "image", v.Filter.Image), space,
		h.Label(g.Text("Code "), h.Select(h.Name("code"), h.Option(h.Value(""), g.Text("any")), g.Map(reason.Codes(), func(c reason.CodeInfo) g.Node {
			return h.Option(g.If(v.Filter.Code == string(c.Code), h.Selected()), g.Text(string(c.Code)))
		}))), space,
		h.Button(g.Text("Show")), space,
		g.If(v.Filter.Any(), anchor(list, g.Text("Show all"))),
	)
}
