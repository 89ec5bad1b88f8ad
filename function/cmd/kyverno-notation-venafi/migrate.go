package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

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

func newMigrate() *cobra.Command {
	var options migrate.Options
	file := ""
	command := &cobra.Command{
		Use: "migrate -f FILE", Short: "Print the CEL policies for a file of ClusterPolicies",
		Long: `Prints the MutatingPolicies and ValidatingPolicies that take the place of ClusterPolicies, or all that cannot be carried over. It exits
with 1 where something cannot.`,
		Example: "  {program} migrate -f clusterpolicy.yaml",
	}
	flags := command.Flags()
	flags.StringVarP(&file, "filename", "f", "", "The `file` with the ClusterPolicies, - for standard input.")
	flags.StringVar(&options.URL, "url", migrate.DefaultURL, "`URL` of the service: https://HOST or https://HOST:PORT.")
	flags.Func("resource", "Resource of a `group/Kind=resources` that match names beside the kinds of Kubernetes; repeatable.", func(text string) error {
		resource, err := migrate.ParseResource(text)
		options.Resources = append(options.Resources, resource)
		return err
	})
	command.RunE = runs(func(c *cobra.Command, args []string) (int, error) {
		if file == "" || len(args) > 0 {
			return 0, errors.New("migrate takes one file of ClusterPolicies, with -f")
		}
		return migratePolicies(file, options, c.OutOrStdout(), c.ErrOrStderr())
	})
	return command
}

// migratePolicies prints the CEL policies for a file of ClusterPolicies, or all that cannot be carried over.
func migratePolicies(file string, options migrate.Options, stdout, stderr io.Writer) (int, error) {
	manifest, err := readManifest(file, maxPolicies)
	if err != nil {
		return 0, err
	}
	pairs, err := migrate.Policies(manifest, options)
	var refused migrate.Errors
	if errors.As(err, &refused) {
		for _, each := range refused {
			fmt.Fprintf(stderr, "%s: %s\n", plain(file), plain(each.Error()))
		}
		return exitRefused, nil
	}
	if err != nil {
		return 0, err
	}
	fmt.Fprint(stdout, migrateHeader)
	for _, pair := range pairs {
		text, err := pair.YAML()
		if err != nil {
			return 0, err
		}
		fmt.Fprintf(stdout, "---\n%s", text)
	}
	return exitMigrated, nil
}
