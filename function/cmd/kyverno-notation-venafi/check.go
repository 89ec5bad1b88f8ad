package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/function/cmd/internal/terminal"
)

// The exit statuses of check.
const (
	exitVerified = 0
	exitDenied   = 1
	exitUnknown  = 2
)

// verdictWord is a verdict on an image in a word. That on all images is the worst, and stands for an exit status.
type verdictWord string

// The words. What is admitted without verification, for example under the level skip, is no reason for another exit status than 0, and does
// not read like what was verified.
const (
	wordVerified   verdictWord = "verified"
	wordUnverified verdictWord = "unverified"
	wordDenied     verdictWord = "denied"
	wordUnknown    verdictWord = "unknown"
)

func wordOf(result core.Result) verdictWord {
	switch {
	case result.Verified && result.Code == reason.Verified:
		return wordVerified
	case result.Verified:
		return wordUnverified
	case result.Code.Class() == reason.Denied:
		return wordDenied
	}
	return wordUnknown
}

// checkOptions are the flags of check that are not settings.
type checkOptions struct {
	manifest, output string
	wide             bool
	demands          demands
	vsa              string // file that attestations of what is verified are written to; "" for none
	attester         attester
}

// checked is what a workload's images came to; that of an image that was named by itself holds this one.
type checked struct {
	workload audit.Workload
	verdict  core.Verdict
	record   record.Record // with --vsa; else zero
}

func newCheck() *cobra.Command {
	var options checkOptions
	command := &cobra.Command{
		Use: "check [IMAGE... | -f FILE]", Short: "Verify images, or the workloads of a manifest",
		Long: `Verifies images as the service does at admission. It exits with 0 when all are verified, 1 when one is denied, and 2 when of one it is
unknown and none is denied. What is admitted without verification, as by the level skip, is called unverified and exits with 0.
With --vsa it writes a signed Verification Summary Attestation of each digest that is verified, as records vsa prints them.`,
		Example: `  {program} check ghcr.io/acme/app:v1 --trustDir trust --trustPolicy acme
  {program} check -f deployment.yaml --trustDir trust --trustPolicy acme -o json`,
	}
	read := withClusterOfUser(command, "trust", "namespace", "plugins", "cluster", "registries", "verification")
	withOutput(command, &options.output, "table", "json", "yaml", "sarif", "junit")
	options.register(command.Flags())
	command.RunE = runs(func(c *cobra.Command, images []string) (int, error) {
		settings, err := read()
		if err != nil {
			return 0, err
		}
		var attestations *attestations
		if options.vsa != "" {
			if attestations, err = options.attester.open(options.vsa); err != nil {
				return 0, err
			}
		}
		found, err := runCheck(c.Context(), settings, &options, images, c.ErrOrStderr())
		if err == nil {
			err = attestations.write(found, c.ErrOrStderr())
		}
		if err != nil {
			return 0, err
		}
		return statusOf(found), options.print(c.OutOrStdout(), found)
	})
	return command
}

// runCheck verifies images, or the workloads of a manifest, some at once.
func runCheck(ctx context.Context, settings function.Settings, options *checkOptions, images []string, stderr io.Writer) ([]checked, error) {
	objects, bodies, err := options.bodies(images)
	if err != nil {
		return nil, err
	}
	settings.LogLevel = "error"
	settings.DecisionsInMemory, settings.DecisionLog, settings.DecisionSink = 0, "", "" // which are the service's
	log, err := function.NewLogger(settings, stderr)
	if err != nil {
		return nil, err
	}
	decide, stop, err := options.decider(ctx, settings, log, stderr)
	if err != nil {
		return nil, err
	}
	defer stop()
	found := make([]checked, len(bodies))
	progress, done := terminal.Progress(stderr, "checked"), atomic.Int64{}
	defer progress(len(bodies), len(bodies))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(settings.MaxParallel)
	for i, body := range bodies {
		group.Go(func() (err error) {
			found[i].workload = workloadOf(objects[i])
			found[i].verdict, found[i].record, err = decide(ctx, body)
			progress(int(done.Add(1)), len(bodies))
			return err
		})
	}
	return found, group.Wait()
}

// decider gives what decides on a request as the service does, with a record of it where attestations are made, and what ends it.
func (o *checkOptions) decider(ctx context.Context, settings function.Settings, log *slog.Logger, stderr io.Writer) (decide func(context.Context, []byte) (core.Verdict, record.Record, error), stop func(), err error) {
	if o.vsa == "" {
		service, err := function.New(settings, os.LookupEnv, log)
		if err != nil {
			return nil, nil, err
		}
		return func(ctx context.Context, body []byte) (core.Verdict, record.Record, error) {
			verdict, err := service.Check(ctx, body)
			return verdict, record.Record{}, err
		}, service.Stop, nil
	}
	engine, snapshot, err := explainer(ctx, settings, stderr)
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context, body []byte) (core.Verdict, record.Record, error) {
		made, err := engine.Explain(ctx, body, snapshot)
		return made.Verdict, made, err
	}, engine.Close, nil
}

func (o *checkOptions) register(flags *pflag.FlagSet) {
	flags.StringVarP(&o.manifest, "filename", "f", "", "Manifest `file` whose workloads' images are verified, - for standard input.")
	flags.BoolVar(&o.wide, "wide", false, "Print tables in full, though they do not fit the terminal.")
	o.demands.register(flags)
	flags.StringVar(&o.vsa, "vsa", "", "`File` that an attestation of each digest that is verified is written to, a line each; needs --key and --verifier.")
	o.attester.register(flags)
}

// bodies makes a request body for each image on the command line, or for each workload of the manifest, and gives the objects too.
func (o *checkOptions) bodies(images []string) (objects []any, bodies [][]byte, err error) {
	if (len(images) == 0) == (o.manifest == "") {
		return nil, nil, errors.New("name images, or a manifest with -f, one of the two")
	}
	attestations, err := o.demands.attestations()
	if err != nil {
		return nil, nil, err
	}
	for _, image := range images {
		objects = append(objects, podOf([]string{image}))
	}
	if o.manifest != "" {
		if objects, err = readWorkloads(o.manifest); err != nil {
			return nil, nil, err
		}
	}
	for _, object := range objects {
		body, err := bodyOf(object, o.demands.trustPolicy, attestations)
		if err != nil {
			return nil, nil, err
		}
		bodies = append(bodies, body)
	}
	return objects, bodies, nil
}

// bodyOf makes a request body. An empty trust policy is the default, and nil attestations are none.
func bodyOf(object any, trustPolicy string, attestations any) ([]byte, error) {
	request := map[string]any{"object": object}
	if trustPolicy != "" {
		request["trustPolicy"] = trustPolicy
	}
	if attestations != nil {
		request["attestations"] = attestations
	}
	return json.Marshal(request)
}

// podOf makes a pod of images, since a request needs an object.
func podOf(images []string) any {
	containers := make([]any, len(images))
	for i, image := range images {
		containers[i] = map[string]any{"name": image, "image": image}
	}
	return map[string]any{"kind": "Pod", "spec": map[string]any{"containers": containers}}
}

// statusOf is exitDenied if an image was denied, else exitUnknown if a verification failed, else exitVerified.
func statusOf(found []checked) int {
	status := exitVerified
	for _, each := range found {
		switch each.verdict.Class {
		case reason.Admitted:
		case reason.Denied:
			return exitDenied
		default:
			status = exitUnknown
		}
	}
	return status
}
