package function

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/samber/lo"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
	"github.com/nirmata/kyverno-notation-venafi/core/console"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// view is what a page is made of.
type view struct {
	Page   string // its name
	Title  string
	Now    time.Time
	Filter console.Filter

	Trust     trustView
	Policies  console.Page[policyView]
	Stores    console.Page[storeView]
	Decisions decisionsView
	Listed    console.Page[console.Decision]
	Decision  decisionView
	Running   runningView
	Uses      console.Page[console.Use]
	Problem   string
}

// trustView is the trust in force.
type trustView struct {
	Problem  string   // why there is none; "" where there is
	Problems []string // of files that could not be read
	Policies []policyView
	Stores   []storeView
	First    []certificateView // those that expire first
	At       time.Time
}

// policyView is a trust policy.
type policyView struct {
	Name, Resource string
	standing
	Statements []shelltrust.PolicyStatement
	More       int // statements that are left out
}

// storeView is a trust store.
type storeView struct {
	Name, Resource string
	standing
	Certificates []console.Certificate
	More         int // certificates that are left out
}

// certificateView is a certificate of a store.
type certificateView struct {
	Store string
	console.Certificate
}

// standing is whether a resource can be used, and why not.
type standing struct {
	State   console.State
	Word    string
	Message string
	Days    string // that are left; "" where nothing expires
	until   time.Time
}

// decisionsView is the decisions that are known.
type decisionsView struct {
	Problem string // why there are none; "" where they are known
	From    string
	All     []console.Decision
	Denied  int
}

// decisionView is one decision.
type decisionView struct {
	record.Record
	State   console.State
	Picture []console.Node
	Why     string
}

// runningView is what an audit found of what runs.
type runningView struct {
	Problem string // why nothing is known; "" where something is
	From    string
	All     []console.Use
	Sum     auditor.Summary
}

// pageError is a page that says why there is no other.
type pageError struct {
	status int
	text   string
}

func (e *pageError) Error() string { return e.text }

// Bounds on what a page shows of one resource.
const (
	maxStatements   = 50
	maxCertificates = 50
	maxOverview     = 5
)

// page answers with a page. fill says what is in it, or gives a pageError.
func (c *Console) page(name string, fill func(*http.Request, *view) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := view{Page: name, Now: time.Now().UTC()}
		status := http.StatusOK
		err := readFilter(r.URL.Query(), &v.Filter)
		if err == nil {
			err = fill(r, &v)
		}
		var shown *pageError
		switch {
		case errors.As(err, &shown):
			status, v.Page, v.Problem = shown.status, "error", shown.text
		case err != nil:
			status, v.Page, v.Problem = http.StatusServiceUnavailable, "error", "Time ran out before the page was there. Try again."
		}
		v.Title = pageTitles[v.Page]
		var text bytes.Buffer
		_ = layout(v).Render(&text) // a buffer takes all
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write(text.Bytes()) // an error means that the caller closed the connection
	}
}

var pageTitles = map[string]string{
	"overview": "Overview", "policies": "Trust policies", "stores": "Trust stores", "decisions": "Decisions", "decision": "Decision",
	"running": "What runs", "error": "No page",
}

// readFilter reads a filter from the query of an address.
func readFilter(query url.Values, filter *console.Filter) error {
	for name, field := range map[string]*string{"namespace": &filter.Namespace, "image": &filter.Image, "code": &filter.Code} {
		*field = strings.TrimSpace(query.Get(name))
		if len(*field) > console.MaxFilter {
			*field = ""
			return &pageError{http.StatusBadRequest, fmt.Sprintf("The filter %s is longer than %d bytes.", name, console.MaxFilter)}
		}
	}
	filter.Page = 1
	if text := query.Get("page"); text != "" {
		number, err := strconv.Atoi(text)
		if err != nil || number < 1 {
			return &pageError{http.StatusBadRequest, "The page is a number from 1."}
		}
		filter.Page = number
	}
	return nil
}

func (c *Console) overview(r *http.Request, v *view) (err error) {
	if err = c.known(r.Context(), v); err != nil {
		return err
	}
	refused := slices.DeleteFunc(console.Select(v.Decisions.All, console.Filter{}), func(d console.Decision) bool { return d.State() == console.Good })
	v.Listed.Items = refused[:min(maxOverview, len(refused))]
	unfit := slices.DeleteFunc(slices.Clone(v.Running.All), func(u console.Use) bool { return u.State() != console.Bad })
	v.Uses.Items = unfit[:min(maxOverview, len(unfit))]
	return nil
}

// known fills in all that is known.
func (c *Console) known(ctx context.Context, v *view) (err error) {
	if v.Trust, err = c.trust.get(ctx); err != nil {
		return err
	}
	if v.Decisions, err = c.decisions.get(ctx); err != nil {
		return err
	}
	v.Running, err = c.running.get(ctx)
	return err
}

func (c *Console) policies(r *http.Request, v *view) (err error) {
	v.Trust, err = c.trust.get(r.Context())
	v.Policies = console.PageOf(v.Trust.Policies, v.Filter.Page)
	return err
}

func (c *Console) stores(r *http.Request, v *view) (err error) {
	v.Trust, err = c.trust.get(r.Context())
	v.Stores = console.PageOf(v.Trust.Stores, v.Filter.Page)
	return err
}

func (c *Console) recent(r *http.Request, v *view) (err error) {
	v.Decisions, err = c.decisions.get(r.Context())
	v.Listed = console.PageOf(console.Select(v.Decisions.All, v.Filter), v.Filter.Page)
	return err
}

func (c *Console) runs(r *http.Request, v *view) (err error) {
	v.Running, err = c.running.get(r.Context())
	v.Uses = console.PageOf(console.SelectUses(v.Running.All, v.Filter), v.Filter.Page)
	return err
}

// one shows one decision.
func (c *Console) one(r *http.Request, v *view) error {
	if c.sources.Decisions == nil {
		return &pageError{http.StatusNotFound, c.sources.NoDecisions}
	}
	found, err := c.sources.Decisions.Find(r.Context(), r.PathValue("id"))
	switch {
	case errors.Is(err, ErrNoDecision):
		return &pageError{http.StatusNotFound, "There is no record of that decision: " + reason.Clip(err.Error(), reason.MaxWords) + "."}
	case err != nil:
		return &pageError{http.StatusBadGateway, "The decision cannot be read: " + reason.Clip(err.Error(), reason.MaxWords) + "."}
	}
	v.Decision = decisionView{found, console.StateOf(found.Outcome), console.Picture(found), record.Why(found)}
	return nil
}

func (c *Console) readDecisions(ctx context.Context) (d decisionsView) {
	if c.sources.Decisions == nil {
		return decisionsView{Problem: c.sources.NoDecisions}
	}
	var err error
	if d.All, d.From, err = c.sources.Decisions.Recent(ctx); err != nil {
		return decisionsView{Problem: "The decisions cannot be read: " + reason.Clip(err.Error(), reason.MaxWords) + "."}
	}
	d.Denied = lo.CountBy(d.All, func(one console.Decision) bool { return one.State() == console.Bad })
	return d
}

func (c *Console) readRunning(ctx context.Context) (v runningView) {
	if c.sources.Running == nil {
		return runningView{Problem: c.sources.NoRunning}
	}
	reports, err := c.sources.Running(ctx)
	if err != nil {
		return runningView{Problem: "The auditor's reports cannot be read: " + reason.Clip(err.Error(), reason.MaxWords) + "."}
	}
	v.From = reports.From
	v.All, v.Sum = console.Uses(reports.Reports)
	return v
}

func (c *Console) readTrust(ctx context.Context) trustView {
	resources, problems, err := c.sources.Trust(ctx)
	if err != nil {
		return trustView{Problem: "The trust resources cannot be read: " + reason.Clip(err.Error(), reason.MaxWords) + "."}
	}
	now := time.Now().UTC()
	v := trustView{At: now}
	for _, problem := range problems {
		v.Problems = append(v.Problems, reason.OneLine(problem.Kind+" "+problem.Name+": "+problem.Reason))
	}
	snapshot, _ := resources.Compile()
	statuses := shelltrust.Assess(resources.Policies, resources.Stores, now)
	for _, policy := range resources.Policies {
		statements := policy.Spec.TrustPolicies
		shown := statements[:min(maxStatements, len(statements))]
		v.Policies = append(v.Policies, policyView{policy.Spec.TrustPolicyName, policy.Name, standingOf(statuses.Policies[policy.Name], now), shown, len(statements) - len(shown)})
	}
	for _, store := range resources.Stores {
		one := storeView{Name: store.Spec.Type + ":" + store.Spec.TrustStoreName, Resource: store.Name, standing: standingOf(statuses.Stores[store.Name], now)}
		for _, certificate := range snapshot.Stores[trust.StoreRef{Type: store.Spec.Type, Name: store.Spec.TrustStoreName}].Certificates {
			one.Certificates = append(one.Certificates, console.NewCertificate(certificate, now))
		}
		slices.SortFunc(one.Certificates, func(a, b console.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
		one.More = max(0, len(one.Certificates)-maxCertificates)
		one.Certificates = one.Certificates[:len(one.Certificates)-one.More]
		for _, certificate := range one.Certificates {
			v.First = append(v.First, certificateView{one.Name, certificate})
		}
		v.Stores = append(v.Stores, one)
	}
	slices.SortFunc(v.Policies, func(a, b policyView) int { return a.standing.compare(b.standing, a.Name, b.Name) })
	slices.SortFunc(v.Stores, func(a, b storeView) int { return a.standing.compare(b.standing, a.Name, b.Name) })
	slices.SortStableFunc(v.First, func(a, b certificateView) int { return a.NotAfter.Compare(b.NotAfter) })
	v.First = v.First[:min(maxOverview, len(v.First))]
	return v
}

// standingOf sums up the status of a resource.
func standingOf(status shelltrust.Status, now time.Time) (s standing) {
	s = standing{State: console.Bad, Word: "not assessed"}
	if ready := meta.FindStatusCondition(status.Conditions, shelltrust.ConditionReady); ready != nil {
		s.Word, s.Message = ready.Reason, reason.OneLine(ready.Message)
		if ready.Status == metav1.ConditionTrue {
			s.State, s.Word = console.Good, "Ready"
		}
	}
	if status.NotAfter != nil {
		s.until = status.NotAfter.Time
		days := console.DaysLeft(s.until, now)
		s.Days = console.DaysWords(days)
		if s.State == console.Good && days < 30 {
			s.State = console.Doubt
		}
	}
	return s
}

// compare orders resources: what cannot be used first, then what expires first.
func (s standing) compare(other standing, name, otherName string) int {
	order := []console.State{console.Bad, console.Doubt, console.Good}
	if d := slices.Index(order, s.State) - slices.Index(order, other.State); d != 0 {
		return d
	}
	if s.until.IsZero() != other.until.IsZero() {
		return lo.Ternary(s.until.IsZero(), 1, -1)
	}
	if d := s.until.Compare(other.until); d != 0 {
		return d
	}
	return strings.Compare(name, otherName)
}

// Unready counts those that cannot be used.
func (v trustView) Unready() int {
	return lo.CountBy(v.Policies, func(p policyView) bool { return p.State == console.Bad }) + lo.CountBy(v.Stores, func(s storeView) bool { return s.State == console.Bad })
}
