package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/function"
)

// The exit statuses of check.
const (
	exitVerified = 0
	exitDenied   = 1
	exitUnknown  = 2
)

// checkOptions are the flags of check that are not settings.
type checkOptions struct {
	manifest, output string
	demands          demands
}

func newCheck() *cobra.Command {
	var options checkOptions
	command := &cobra.Command{
		Use: "check [IMAGE... | -f FILE]", Short: "Verify images, or the workloads of a manifest",
		Long: `Verifies images as the service does at admission. It exits with 0 when all are verified, 1 when one is denied, and 2 when it could not
be told.`,
		Example: `  {program} check ghcr.io/acme/app:v1 --trustDir trust --trustPolicy acme
  {program} check -f deployment.yaml --trustDir trust --trustPolicy acme -o json`,
	}
	read := withClusterOfUser(command, "trust", "namespace", "plugins", "cluster", "registries", "verification")
	withOutput(command, &options.output, "table", "json")
	options.register(command.Flags())
	command.RunE = runs(func(c *cobra.Command, images []string) (int, error) {
		settings, err := read()
		if err != nil {
			return 0, err
		}
		verdicts, err := runCheck(c.Context(), settings, &options, images, c.ErrOrStderr())
		if err != nil {
			return 0, err
		}
		return statusOf(verdicts), print(c.OutOrStdout(), options.output, verdicts)
	})
	return command
}

// runCheck verifies images, or the workloads of a manifest.
func runCheck(ctx context.Context, settings function.Settings, options *checkOptions, images []string, stderr io.Writer) ([]core.Verdict, error) {
	bodies, err := options.bodies(images)
	if err != nil {
		return nil, err
	}
	settings.LogLevel = "error"
	settings.DecisionsInMemory, settings.DecisionLog, settings.DecisionSink = 0, "", "" // which are the service's
	log, err := function.NewLogger(settings, stderr)
	if err != nil {
		return nil, err
	}
	service, err := function.New(settings, os.LookupEnv, log)
	if err != nil {
		return nil, err
	}
	defer service.Stop()
	var verdicts []core.Verdict
	for _, body := range bodies {
		verdict, err := service.Check(ctx, body)
		if err != nil {
			return nil, err
		}
		verdicts = append(verdicts, verdict)
	}
	return verdicts, nil
}

func (o *checkOptions) register(flags *pflag.FlagSet) {
	flags.StringVarP(&o.manifest, "filename", "f", "", "Manifest `file` whose workloads' images are verified, - for standard input.")
	o.demands.register(flags)
}

// bodies makes one request body for the images on the command line, or one for each workload of the manifest.
func (o *checkOptions) bodies(images []string) ([][]byte, error) {
	if (len(images) == 0) == (o.manifest == "") {
		return nil, errors.New("name images, or a manifest with -f, one of the two")
	}
	attestations, err := o.demands.attestations()
	if err != nil {
		return nil, err
	}
	objects := []any{podOf(images)}
	if o.manifest != "" {
		if objects, err = readWorkloads(o.manifest); err != nil {
			return nil, err
		}
	}
	var bodies [][]byte
	for _, object := range objects {
		body, err := bodyOf(object, o.demands.trustPolicy, attestations)
		if err != nil {
			return nil, err
		}
		bodies = append(bodies, body)
	}
	return bodies, nil
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
func statusOf(verdicts []core.Verdict) int {
	status := exitVerified
	for _, verdict := range verdicts {
		switch verdict.Class {
		case reason.Admitted:
		case reason.Denied:
			return exitDenied
		default:
			status = exitUnknown
		}
	}
	return status
}

func print(stdout io.Writer, output string, verdicts []core.Verdict) error {
	results := []core.Result{}
	for _, verdict := range verdicts {
		results = append(results, verdict.Results...)
	}
	if output == "json" {
		encoder := json.NewEncoder(stdout)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(map[string]any{"verified": statusOf(verdicts) == exitVerified, "results": results})
	}
	return printTable(stdout, results)
}
