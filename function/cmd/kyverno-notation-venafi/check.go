package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

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

// check verifies images from the command line as the service does, and returns the exit status.
func check(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	verdicts, options, err := runCheck(ctx, args, stderr)
	if err != nil {
		return report(err, stdout, stderr)
	}
	if err := print(stdout, options.output, verdicts); err != nil {
		fmt.Fprintln(stderr, "error:", err)
		return exitUnknown
	}
	return exitStatus(verdicts)
}

func runCheck(ctx context.Context, args []string, stderr io.Writer) ([]core.Verdict, checkOptions, error) {
	var options checkOptions
	settings, images, err := function.LoadSettings("check", args, os.LookupEnv, options.register)
	if err != nil {
		return nil, options, err
	}
	bodies, err := options.bodies(images)
	if err != nil {
		return nil, options, err
	}
	settings.LogLevel = "error"
	settings.DecisionsInMemory, settings.DecisionLog, settings.DecisionSink = 0, "", "" // which are the service's
	log, err := function.NewLogger(settings, stderr)
	if err != nil {
		return nil, options, err
	}
	service, err := function.New(settings, os.LookupEnv, log)
	if err != nil {
		return nil, options, err
	}
	defer service.Stop()
	var verdicts []core.Verdict
	for _, body := range bodies {
		verdict, err := service.Check(ctx, body)
		if err != nil {
			return nil, options, err
		}
		verdicts = append(verdicts, verdict)
	}
	return verdicts, options, nil
}

func (o *checkOptions) register(flags *flag.FlagSet) {
	flags.StringVar(&o.manifest, "f", "", "Manifest `file` whose workloads' images are verified, - for standard input.")
	flags.StringVar(&o.output, "o", "table", "Output: table or json.")
	o.demands.register(flags)
}

// bodies makes one request body for the images on the command line, or one for each workload of the manifest.
func (o *checkOptions) bodies(images []string) ([][]byte, error) {
	if o.output != "table" && o.output != "json" {
		return nil, fmt.Errorf("-o is %q; use table or json", o.output)
	}
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

// exitStatus is exitDenied if an image was denied, else exitUnknown if a verification failed, else exitVerified.
func exitStatus(verdicts []core.Verdict) int {
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
		return encoder.Encode(map[string]any{"verified": exitStatus(verdicts) == exitVerified, "results": results})
	}
	return printTable(stdout, results)
}
