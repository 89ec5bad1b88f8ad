package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/function"
)

// whyOptions are the flags of why that are not settings.
type whyOptions struct {
	records   []string
	namespace string
	output    string
	service   serviceOptions
	demands   demands
}

func (o *whyOptions) register(flags *pflag.FlagSet) {
	flags.StringArrayVar(&o.records, "records", nil, "A `file` of records in which a decision is looked up, - for standard input; repeatable.")
	flags.StringVarP(&o.namespace, "namespace", "n", "", "The `namespace` of a pod; else that of the kubeconfig.")
	o.service.register(flags)
	o.demands.register(flags)
}

func newWhy() *cobra.Command {
	var options whyOptions
	command := &cobra.Command{
		Use: "why IMAGE...|pod/NAME|ID", Short: "Tell the chain of reasons for an image, a pod or a decision",
		Long: `Tells the chain of reasons for images or a pod, which are verified now, or for a decision that is recorded. It exits as check does. With
-o json it prints records, a line each.`,
		Example: `  {program} why ghcr.io/acme/app:v1 --trustDir trust --trustPolicy acme
  {program} why pod/web -n team-a --trustPolicy acme
  {program} why 01M8C95RNMTW6JAP53C04EWFKA --records decisions.jsonl`,
	}
	read := withClusterOfUser(command, "trust", "plugins", "registries", "verification")
	withOutput(command, &options.output, "text", "json")
	options.register(command.Flags())
	command.RunE = runs(func(c *cobra.Command, about []string) (int, error) {
		settings, err := read()
		if err == nil && len(about) == 0 {
			err = errors.New("name images, pod/NAME, or the id of a decision")
		}
		if err != nil {
			return 0, err
		}
		return why(c.Context(), settings, &options, about, c.OutOrStdout(), c.ErrOrStderr())
	})
	return command
}

// why prints the chain of reasons for images, for a pod or for a recorded decision, and returns the exit status, which is that of
// check.
func why(ctx context.Context, settings function.Settings, options *whyOptions, about []string, stdout, stderr io.Writer) (status int, err error) {
	var told []record.Record
	switch {
	case len(about) == 1 && decisionID.MatchString(about[0]):
		told, err = options.recorded(ctx, about[0])
	default:
		told, err = options.gathered(ctx, settings, about, stderr)
	}
	if err != nil {
		return 0, err
	}
	for _, r := range told {
		text := record.Why(r) + "\n"
		if options.output == "json" {
			_, line, err := record.Encode(r)
			if err != nil {
				return 0, err
			}
			text = string(harmless(line)) + "\n"
		}
		fmt.Fprint(stdout, text)
	}
	switch told[0].Outcome {
	case "admitted":
		return exitVerified, nil
	case "denied":
		return exitDenied, nil
	}
	return exitUnknown, nil
}

// recorded finds a decision, and behind it the one that its facts come from.
func (o *whyOptions) recorded(ctx context.Context, id string) (told []record.Record, err error) {
	first, err := o.find(ctx, id)
	if err != nil {
		return nil, err
	}
	told = append(told, first)
	for _, gathered := range first.Evidence {
		if gathered.From == "" || gathered.From == id {
			continue
		}
		if before, err := o.find(ctx, gathered.From); err == nil { // it may be gone
			told = append(told, before)
		}
	}
	return told, nil
}

func (o *whyOptions) find(ctx context.Context, id string) (found record.Record, err error) {
	if !decisionID.MatchString(id) {
		return found, fmt.Errorf("%q is no id of a decision", plain(id))
	}
	if o.service.url != "" {
		return o.service.decision(ctx, id)
	}
	if len(o.records) == 0 {
		return found, errors.New("say where the decision is recorded, by --records or --service")
	}
	var broken error
	for _, file := range o.records {
		broken = errors.Join(broken, eachRecord(file, func(r record.Record) error {
			if r.ID == id {
				found = r
			}
			return nil
		}))
	}
	if found.ID == "" {
		return found, errors.Join(fmt.Errorf("there is no decision %s in %s", id, strings.Join(o.records, ", ")), broken)
	}
	return found, nil // whatever else the files have
}

// gathered decides on images or a pod now.
func (o *whyOptions) gathered(ctx context.Context, settings function.Settings, about []string, stderr io.Writer) ([]record.Record, error) {
	engine, snapshot, err := explainer(ctx, settings, stderr)
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	object := podOf(about)
	if name, ok := strings.CutPrefix(about[0], "pod/"); ok && len(about) == 1 {
		if object, err = engine.Pod(ctx, o.namespace, name); err != nil {
			return nil, err
		}
	}
	attestations, err := o.demands.attestations()
	if err != nil {
		return nil, err
	}
	body, err := bodyOf(object, o.demands.trustPolicy, attestations)
	if err != nil {
		return nil, err
	}
	r, err := engine.Explain(ctx, body, snapshot)
	if err != nil {
		return nil, err
	}
	r, _, err = record.Encode(r) // as it would be recorded
	return []record.Record{r}, err
}
