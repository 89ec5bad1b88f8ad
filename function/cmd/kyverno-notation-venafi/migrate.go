package main

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/nirmata/kyverno-notation-venafi/core/migrate"
)

// maxPolicies is the upper bound on the size of a file of ClusterPolicies; bytes. An API server takes no larger object.
const maxPolicies = 3 << 20

// The exit statuses of migrate, beside 2 for a wrong command line or file.
const (
	exitMigrated = 0
	exitRefused  = 1
)

// migrateHeader stands ahead of all policies that are printed.
const migrateHeader = `# Policies that take the place of ClusterPolicies. Before them apply config/samples/callers.yaml, which lets Kyverno read the
# token that they send, and have Kyverno trust the service's CA. Delete the ClusterPolicies when these are ready.
`

// migratePolicies prints the CEL policies for a file of ClusterPolicies, or all that cannot be carried over.
func migratePolicies(args []string, stdout, stderr io.Writer) int {
	var options migrate.Options
	file, err := migrateFlags(args, stdout, &options)
	if errors.Is(err, flag.ErrHelp) {
		return exitMigrated
	}
	if err != nil {
		return report(err, stdout, stderr)
	}
	manifest, err := readManifest(file, maxPolicies)
	if err != nil {
		return report(err, stdout, stderr)
	}
	pairs, err := migrate.Policies(manifest, options)
	var refused migrate.Errors
	if errors.As(err, &refused) {
		for _, each := range refused {
			fmt.Fprintf(stderr, "%s: %s\n", file, each)
		}
		return exitRefused
	}
	if err != nil {
		return report(err, stdout, stderr)
	}
	fmt.Fprint(stdout, migrateHeader)
	for _, pair := range pairs {
		text, err := pair.YAML()
		if err != nil {
			return report(err, stdout, stderr)
		}
		fmt.Fprintf(stdout, "---\n%s", text)
	}
	return exitMigrated
}

// migrateFlags reads the command line of migrate into options, and gives the name of the file.
func migrateFlags(args []string, help io.Writer, options *migrate.Options) (file string, err error) {
	flags := flag.NewFlagSet("migrate", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&file, "f", "", "`File` with the ClusterPolicies, - for standard input.")
	flags.StringVar(&options.URL, "url", migrate.DefaultURL, "Where the service is: https://HOST or https://HOST:PORT.")
	flags.Func("resource", "Resource of a `group/Kind=resources` that match names beside the kinds of Kubernetes; repeatable.", func(text string) error {
		resource, err := migrate.ParseResource(text)
		options.Resources = append(options.Resources, resource)
		return err
	})
	err = flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(help)
		flags.Usage()
	}
	if err == nil && (file == "" || flags.NArg() > 0) {
		err = errors.New("migrate takes one file of ClusterPolicies, with -f")
	}
	return file, err
}
