package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/samber/lo"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/function/cmd/internal/terminal"
	"github.com/nirmata/kyverno-notation-venafi/shell/inventory"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// auditOptions are the flags of audit that are not settings.
type auditOptions struct {
	manifest, list, output string
	namespaces, except     string
	with, without          []string
	until                  string
	timeout                time.Duration
	wide, everywhere       bool
	demands                demands
}

// auditReport is what an audit found. Flips or Expiries and Anchors are nil unless they were asked for.
type auditReport struct {
	Findings []audit.Finding
	Flips    []audit.Flip
	Expiries []audit.Expiry
	Anchors  []audit.Anchor

	until  time.Time
	source string // file of the workloads; "" for a cluster
}

func newAudit() *cobra.Command {
	var options auditOptions
	command := &cobra.Command{
		Use: "audit [IMAGE... | -f FILE | --images FILE]", Short: "Hold what runs against the trust of now, of a proposed change, and over time",
		Long: `Verifies what runs in a cluster, what a manifest or a list holds, or images, each once, and tells what a restart would be denied. With
--with and --without it tells what a change of trust changes, and with --until what stops being admitted. It writes nothing. It exits
with 0 when all is well, 1 when something is denied, and 2 when it could not be told.`,
		Example: `  {program} audit --trustPolicy acme
  {program} audit -n team-a -o sarif
  {program} audit --with proposed.yaml
  {program} audit --until 2027-06-30`,
	}
	read := withClusterOfUser(command, "trust", "plugins", "registries", "verification")
	withOutput(command, &options.output, "table", "json", "sarif", "junit")
	options.register(command.Flags())
	command.RunE = runs(func(c *cobra.Command, images []string) (int, error) {
		settings, err := read()
		if err != nil {
			return 0, err
		}
		found, err := runAudit(c.Context(), settings, &options, images, c.ErrOrStderr())
		if err != nil {
			return 0, err
		}
		status := map[audit.Outcome]int{audit.Good: exitVerified, audit.Bad: exitDenied, audit.Indefinite: exitUnknown}[found.outcome()]
		return status, options.print(c.OutOrStdout(), found)
	})
	return command
}

// print writes what was found, in the format that is asked for.
func (o *auditOptions) print(w io.Writer, r auditReport) error {
	switch entries, rules := r.entries(); o.output {
	case "json":
		return printAuditJSON(w, r)
	case "sarif":
		return printSARIF(w, r.source, entries, rules)
	case "junit":
		return printJUnit(w, "kyverno-notation-venafi audit", entries)
	}
	return printAudit(w, r, o.wide)
}

func (o *auditOptions) register(flags *pflag.FlagSet) {
	flags.StringVarP(&o.manifest, "filename", "f", "", "Manifest `file` with the workloads, - for standard input; else what runs in the cluster of --kubeconfig.")
	flags.StringVar(&o.list, "images", "", "The `file` with images, one a line, each after a namespace if it has one; - for standard input.")
	flags.StringVarP(&o.namespaces, "namespaces", "n", "", "Only these `namespaces` of the cluster, comma-separated; else all.")
	flags.StringVar(&o.namespaces, "namespace", "", "The same, for one.")
	flags.BoolVarP(&o.everywhere, "all-namespaces", "A", false, "All namespaces of the cluster, as without --namespaces.")
	flags.StringVar(&o.except, "exceptNamespaces", "", "Not these `namespaces`, comma-separated.")
	flags.StringArrayVar(&o.with, "with", nil, "The `file` with TrustPolicies and TrustStores that are proposed: print what they change; repeatable.")
	flags.StringArrayVar(&o.without, "without", nil, "The `name` of a TrustPolicy or TrustStore that is to be deleted: print what that changes; repeatable.")
	flags.StringVar(&o.until, "until", "", "Print what stops being admitted up to this `date`, such as 2027-06-30, and by what.")
	flags.BoolVar(&o.wide, "wide", false, "Print tables in full, though they do not fit the terminal.")
	flags.DurationVar(&o.timeout, "timeout", time.Hour, "The `time` for the whole audit. Of what was not verified by then it could not tell.")
	o.demands.register(flags)
}

func (o *auditOptions) comparing() bool { return len(o.with)+len(o.without) > 0 }

// validate checks the flags that do not stand for themselves.
func (o *auditOptions) validate(images []string) error {
	sources := 0
	for _, named := range []bool{o.manifest != "", o.list != "", len(images) > 0} {
		if named {
			sources++
		}
	}
	switch {
	case sources > 1:
		return errors.New("name images, a list with --images, or a manifest with -f, one of the three")
	case sources == 1 && o.namespaces+o.except != "":
		return errors.New("--namespaces and --exceptNamespaces choose from a cluster, and workloads are named otherwise")
	case o.everywhere && o.namespaces != "":
		return errors.New("--all-namespaces and --namespaces are both set; leave one of them out")
	case o.comparing() && o.until != "":
		return errors.New("--until tells of the trust of now; leave it out, or --with and --without")
	case o.timeout <= 0:
		return fmt.Errorf("--timeout is %s; use a time above 0", o.timeout)
	}
	return nil
}

func runAudit(ctx context.Context, settings function.Settings, options *auditOptions, images []string, stderr io.Writer) (auditReport, error) {
	if err := options.validate(images); err != nil {
		return auditReport{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, options.timeout)
	defer cancel()
	engine, err := function.NewAudit(settings, os.LookupEnv)
	if err != nil {
		return auditReport{}, err
	}
	defer engine.Close()
	return options.run(ctx, engine, images, stderr)
}

// run gathers workloads and trust, verifies, and makes the report that is asked for.
func (o *auditOptions) run(ctx context.Context, engine *function.Audit, images []string, stderr io.Writer) (found auditReport, err error) {
	if o.until != "" {
		if found.until, err = untilOf(o.until, engine.Now()); err != nil {
			return found, err
		}
		engine.Foresee(found.until)
	}
	trusts, err := o.trusts(ctx, engine, stderr)
	if err != nil {
		return found, err
	}
	uses, err := o.uses(ctx, engine, images)
	if err != nil {
		return found, err
	}
	sides, unread, err := o.sides(ctx, engine, images, trusts, stderr)
	if err != nil {
		return found, err
	}
	evaluations, err := engine.Verify(ctx, uses, terminal.Progress(stderr, "images"), sides...)
	if err != nil {
		return found, err
	}
	if o.manifest != "-" && o.list != "-" {
		found.source = o.manifest + o.list
	}
	found.Findings = append(evaluations[0].Findings(uses), unread...)
	switch {
	case o.comparing() && !named(evaluations):
		return found, errors.New("no TrustPolicy that exists, now or as proposed, applies to any workload, so nothing can change; check --trustPolicy, spec.appliesTo, and where trust is read from")
	case o.comparing():
		found.Flips = append(audit.Flips(uses, evaluations[0], evaluations[1]), lo.Map(unread, unreadFlip)...)
	case o.until != "":
		found.Expiries = evaluations[0].Expiries(uses, engine.Now(), found.until)
		found.Anchors = evaluations[0].Anchors(uses)
	}
	return found, nil
}

// named tells whether any trust policy that a check names exists under one of the trusts.
func named(sides []audit.Evaluation) bool {
	return slices.ContainsFunc(sides, func(side audit.Evaluation) bool {
		for _, verdict := range side.Verdicts {
			if verdict.Code != reason.TrustPolicyNotFound {
				return true
			}
		}
		return false
	})
}

// outcome is that of what was asked for.
func (r auditReport) outcome() audit.Outcome {
	switch {
	case r.Flips != nil:
		return audit.SumFlips(r.Flips)
	case r.Expiries != nil:
		return audit.SumExpiries(r.Findings, r.Expiries)
	}
	return audit.Sum(r.Findings)
}

// untilOf reads a day, to its end, or a moment. It must be ahead.
func untilOf(text string, now time.Time) (time.Time, error) {
	until, err := time.Parse(time.DateOnly, text)
	if err == nil {
		until = until.Add(24*time.Hour - time.Second)
	} else if until, err = time.Parse(time.RFC3339, text); err != nil {
		return until, fmt.Errorf("--until is %q; write a date such as 2027-06-30", text)
	}
	if !until.After(now) {
		return until, fmt.Errorf("--until is %s, which has passed", text)
	}
	return until, nil
}

// rules are the attestations that are demanded, read as those of a request are.
func (o *auditOptions) rules() ([]core.AttestationRule, error) {
	attestations, err := o.demands.attestations()
	if err != nil || attestations == nil {
		return nil, err
	}
	list, err := json.Marshal(attestations)
	if err != nil {
		return nil, err
	}
	return core.ParseAttestations(list)
}

// trusts gives the trust resources in force, and the proposed ones if there are some.
func (o *auditOptions) trusts(ctx context.Context, engine *function.Audit, stderr io.Writer) ([]shelltrust.Resources, error) {
	now, problems, err := engine.Trust(ctx)
	if err != nil {
		return nil, err
	}
	warn(stderr, "", problems)
	if !o.comparing() {
		return []shelltrust.Resources{now}, nil
	}
	proposed := now
	for _, name := range o.without {
		if proposed, err = proposed.Without(name); err != nil {
			return nil, fmt.Errorf("--without: %w", err)
		}
	}
	var changes []shelltrust.Resources
	for _, file := range o.with {
		change, err := shelltrust.ReadChange(file)
		if err != nil {
			return nil, fmt.Errorf("--with: %w", err)
		}
		proposed = proposed.With(change)
		changes = append(changes, change)
	}
	for _, change := range changes {
		if unnamed := change.Unnamed(proposed.Stores); len(unnamed) > 0 {
			return nil, fmt.Errorf("--with: no TrustStore names %s in spec.caBundleFrom, so it changes nothing", strings.Join(unnamed, ", "))
		}
	}
	proposed = engine.Bundles(ctx, proposed)
	return []shelltrust.Resources{now, proposed}, nil
}

func warn(stderr io.Writer, when string, problems []shelltrust.Problem) {
	for _, p := range problems {
		fmt.Fprintf(stderr, "warning: %s%s %s: %s\n", when, p.Kind, plain(p.Name), plain(p.Reason))
	}
}

// sides gives each trust with what is demanded under it. Resources that cannot be used are told of, and go on to deny what names
// them, as they do in the service. unread are findings on the fields appliesTo that cannot be read, of the last side: a check that
// they would have asked for is missing.
func (o *auditOptions) sides(ctx context.Context, engine *function.Audit, images []string, trusts []shelltrust.Resources, stderr io.Writer) (sides []function.Side, unread []audit.Finding, err error) {
	rules, err := o.rules()
	if err != nil {
		return nil, nil, err
	}
	everywhere, err := audit.Everywhere(o.demands.trustPolicy, rules)
	if err != nil {
		return nil, nil, err
	}
	var applied [][]audit.AppliesTo
	for i, resources := range trusts {
		snapshot, problems := resources.Compile()
		sides = append(sides, function.Side{Trust: snapshot, Demands: everywhere})
		if o.demands.trustPolicy == "" {
			found, unreadable := resources.AppliesTo()
			applied, unread = append(applied, o.withRules(found, rules)), lo.Map(unreadable, unreadFinding)
			problems = append(problems, unreadable...)
		}
		warn(stderr, map[int]string{1: "as proposed, "}[i], problems)
	}
	if len(lo.Flatten(applied)) == 0 { // by the flag, or the default
		if o.demands.trustPolicy == "" && engine.DefaultTrustPolicy() == "" {
			err = errors.New("name the trust policy with --trustPolicy, in which {{ namespace }} stands for the namespace; or say in spec.appliesTo of TrustPolicies where they apply")
		}
		return sides, unread, err
	}
	namespaces, err := o.labels(ctx, engine, images, lo.Flatten(applied))
	if err != nil {
		return nil, nil, err
	}
	var fallback *audit.Demand
	if engine.DefaultTrustPolicy() != "" {
		fallback = &audit.Demand{Rules: rules}
	}
	for i := range sides {
		sides[i].Demands = audit.ByNamespace(applied[i], namespaces, fallback)
	}
	return sides, unread, nil
}

// withRules has flags on attestations go before those of the policies.
func (o *auditOptions) withRules(applied []audit.AppliesTo, rules []core.AttestationRule) []audit.AppliesTo {
	if o.demands.file == "" && len(o.demands.types) == 0 {
		return applied
	}
	return lo.Map(applied, func(a audit.AppliesTo, _ int) audit.AppliesTo {
		a.Rules, a.Unreadable = rules, ""
		return a
	})
}

// labels reads the labels of namespaces, where any policy selects by them and there is a cluster.
func (o *auditOptions) labels(ctx context.Context, engine *function.Audit, images []string, applied []audit.AppliesTo) (audit.Namespaces, error) {
	if !slices.ContainsFunc(applied, func(a audit.AppliesTo) bool { return a.Namespaces.NeedsLabels() }) {
		return nil, nil
	}
	if named := o.manifest != "" || o.list != "" || len(images) > 0; named && engine.TrustsFiles() {
		return nil, nil
	}
	return engine.Namespaces(ctx, splitNames(o.namespaces))
}

func unreadFinding(p shelltrust.Problem, _ int) audit.Finding {
	use := audit.Use{Workload: audit.Workload{Kind: p.Kind, Name: p.Name}, Container: "-", Image: "-"}
	return audit.Finding{Use: use, State: audit.Unknown, Code: reason.DemandUnknown, Reason: p.Reason}
}

func unreadFlip(f audit.Finding, _ int) audit.Flip {
	side := audit.Side{Code: f.Code, Reason: f.Reason}
	return audit.Flip{Use: f.Use, Change: audit.NotTold, Now: side, Proposed: side}
}

// uses gives the images of the workloads that are named, or else of those that run in the cluster. None at all is an error: it
// would look like all being well.
func (o *auditOptions) uses(ctx context.Context, engine *function.Audit, images []string) (uses []audit.Use, err error) {
	switch {
	case o.manifest != "":
		uses, err = usesOfManifest(o.manifest)
	case o.list != "":
		uses, err = usesOfList(o.list)
	case len(images) > 0:
		for _, image := range images {
			uses = append(uses, listedUse("", image))
		}
	default:
		uses, err = engine.Uses(ctx, inventory.Options{Namespaces: splitNames(o.namespaces), Except: splitNames(o.except)})
	}
	if err == nil && len(uses) == 0 {
		err = errors.New("no workload was found; check the cluster, and --namespaces and --exceptNamespaces")
	}
	return audit.Merged(uses), err
}

func splitNames(list string) []string {
	names := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	slices.Sort(names)
	return slices.Compact(names)
}
