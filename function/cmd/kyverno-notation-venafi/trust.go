package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/spf13/cobra"

	"github.com/nirmata/kyverno-notation-venafi/core/notation"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/function"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// The exit statuses of trust import and trust export, beside 2 for a wrong command line or what cannot be read.
const (
	exitCarried    = 0
	exitNotCarried = 1
)

func newTrust() *cobra.Command {
	command := &cobra.Command{
		Use: "trust", Short: "Carry trust over from the notation CLI, or to it",
		Long: "Commands that turn a configuration directory of the notation CLI into TrustPolicy and TrustStore resources, and the other way.",
		RunE: someCommand,
	}
	command.AddCommand(newTrustImport(), newTrustExport())
	return command
}

func newTrustImport() *cobra.Command {
	name := ""
	command := &cobra.Command{
		Use: "import DIR", Short: "Print the resources for a configuration directory of notation",
		Long: `Prints a TrustPolicy for the trust policy of a directory (trustpolicy.oci.json, else trustpolicy.json), and a TrustStore for each folder of
truststore/x509. It exits with 1 where something cannot be carried over, and names its file and line.`,
		Example: "  {program} trust import ~/.config/notation --name acme > trust.yaml",
	}
	command.Flags().StringVar(&name, "name", "notation", "The `name` of the TrustPolicy.")
	command.RunE = runs(func(c *cobra.Command, args []string) (int, error) {
		if len(args) != 1 {
			return 0, errors.New("trust import takes one directory, which notation calls {NOTATION_CONFIG}")
		}
		return importTrust(args[0], name, c.OutOrStdout(), c.ErrOrStderr())
	})
	return command
}

func newTrustExport() *cobra.Command {
	var options exportOptions
	command := &cobra.Command{
		Use: "export [-f FILE]... DIR", Short: "Make a configuration directory of notation for a TrustPolicy",
		Long: `Writes a TrustPolicy, and the TrustStores that it names, as the trustpolicy.json and truststore/x509 of a directory that is empty or does not
exist: from files, or else those of --trustDir or of the cluster. It exits with 1 where something cannot be carried over.`,
		Example: "  {program} trust export -f trust.yaml --trustPolicy acme notation",
	}
	read := withClusterOfUser(command, "trustDir", "kubeconfig", "context")
	command.Flags().StringArrayVarP(&options.files, "filename", "f", nil, "A `file` with TrustPolicies and TrustStores, - for standard input; repeatable.")
	command.Flags().StringVar(&options.trustPolicy, "trustPolicy", "", "The `name` of the trust policy; needed where there are several.")
	command.RunE = runs(func(c *cobra.Command, args []string) (int, error) {
		if len(args) != 1 {
			return 0, errors.New("trust export takes one directory, which it makes")
		}
		settings, err := read()
		if err != nil {
			return 0, err
		}
		return exportTrust(c.Context(), settings, os.LookupEnv, options, args[0], c.ErrOrStderr())
	})
	return command
}

// importTrust prints the resources for a configuration directory of notation, or all that cannot be carried over.
func importTrust(dir, name string, stdout, stderr io.Writer) (int, error) {
	files, err := function.ReadNotation(dir)
	if err != nil {
		return 0, err
	}
	config, err := notation.Import(files)
	var refused notation.Errors
	if errors.As(err, &refused) {
		for _, problem := range refused {
			fmt.Fprintln(stderr, plain(problem.Error()))
		}
		return exitNotCarried, nil
	}
	if err != nil {
		return 0, err
	}
	text, err := config.Manifests(name)
	if err != nil {
		return 0, err
	}
	resources, err := shelltrust.ParseChange("what is imported", []byte(text))
	if err != nil {
		return 0, err
	}
	if _, problems := resources.Compile(); len(problems) > 0 { // what notation would refuse too
		for _, p := range problems {
			fmt.Fprintf(stderr, "%s: %s\n", notation.PolicyFile, plain(p.Kind+" "+p.Name+": "+p.Reason))
		}
		return exitNotCarried, nil
	}
	for _, note := range config.Notes {
		fmt.Fprintln(stderr, "note:", plain(note))
	}
	_, err = io.WriteString(stdout, text)
	return exitCarried, err
}

// exportOptions are the flags of trust export that are no settings.
type exportOptions struct {
	files       []string
	trustPolicy string
}

// exportTrust makes a configuration directory of notation for a trust policy, or tells why it cannot be carried over.
func exportTrust(ctx context.Context, settings function.Settings, environment function.Environment, options exportOptions, dir string, stderr io.Writer) (int, error) {
	resources, err := options.read(ctx, settings, environment, stderr)
	if err != nil {
		return 0, err
	}
	snapshot, _ := resources.Compile() // what is wrong with the policy that is exported, Usable tells
	name, err := options.choose(snapshot)
	if err != nil {
		return 0, err
	}
	var files []notation.File
	policy, finding := snapshot.Usable(name)
	if finding != nil {
		err = errors.New(finding.Reason)
	} else if files, err = notation.Export(policy, snapshot.Stores); err == nil {
		err = acceptedByNotation(files[0])
	}
	if err != nil {
		fmt.Fprintln(stderr, "error:", plain(err.Error()))
		return exitNotCarried, nil
	}
	if slices.ContainsFunc(resources.Policies, func(p shelltrust.PolicyResource) bool {
		return p.Spec.TrustPolicyName == name && p.Spec.AppliesTo != nil
	}) {
		fmt.Fprintln(stderr, "note: spec.appliesTo is left out: it is about audits, and notation has no such thing")
	}
	return exitCarried, function.WriteNotation(dir, files)
}

// read gives the resources in the files that are named, or else those in force.
func (o exportOptions) read(ctx context.Context, settings function.Settings, environment function.Environment, stderr io.Writer) (shelltrust.Resources, error) {
	var resources shelltrust.Resources
	for _, file := range o.files {
		text, err := readManifest(file, maxPolicies)
		if err != nil {
			return resources, err
		}
		read, err := shelltrust.ParseChange(file, text)
		if err != nil {
			return resources, err
		}
		resources = resources.With(read)
	}
	if len(o.files) > 0 {
		return resources.Read(shelltrust.NotAmongManifests), nil
	}
	engine, err := function.NewAudit(settings, environment)
	if err != nil {
		return resources, err
	}
	defer engine.Close()
	resources, problems, err := engine.Trust(ctx)
	warn(stderr, "", problems)
	return resources, err
}

// choose gives the trust policy that is named, or the only one: notation has one document.
func (o exportOptions) choose(snapshot trust.Snapshot) (string, error) {
	names := slices.Sorted(maps.Keys(snapshot.Policies))
	switch {
	case o.trustPolicy != "":
		return o.trustPolicy, nil
	case len(names) == 0:
		return "", errors.New("there is no TrustPolicy")
	case len(names) > 1:
		return "", fmt.Errorf("notation has one trust policy, and there are several; name one with --trustPolicy: %s", strings.Join(names[:min(len(names), 20)], ", "))
	}
	return names[0], nil
}

// acceptedByNotation says why notation would refuse a trust policy document.
func acceptedByNotation(policy notation.File) error {
	var document trustpolicy.Document
	if err := json.Unmarshal(policy.Data, &document); err != nil {
		return err
	}
	return document.Validate()
}
