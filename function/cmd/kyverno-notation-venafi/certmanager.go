package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nirmata/kyverno-notation-venafi/function"
)

func newCertmanager() *cobra.Command {
	command := &cobra.Command{
		Use: "certmanager", Short: "Keep certificates and the status of trust resources, and audit what runs", Args: noArguments,
		Long: `Keeps the service's certificates, its callers' tokens and the status of the trust resources up to date, as one leader among replicas,
and audits what runs where that is on. It runs until SIGINT or SIGTERM.`,
	}
	var settings function.CertmanagerSettings
	flags := settings.Flags()
	flags.Register(command.Flags(), certmanagerFlags...)
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.Register(all)
	all.VisitAll(func(flag *pflag.Flag) { // one that has no meaning here is accepted, since one set of flags may be given to both deployments
		flag.Hidden = true
		if command.Flags().Lookup(flag.Name) == nil {
			command.Flags().AddFlag(flag)
		}
	})
	command.RunE = func(c *cobra.Command, _ []string) error {
		if err := errors.Join(flags.Load(os.LookupEnv), settings.Validate()); err != nil {
			return err
		}
		return runCertmanager(c.Context(), settings, c.ErrOrStderr())
	}
	return command
}

// certmanagerFlags are the groups of settings that certmanager has flags for: what the auditor verifies with is among them.
var certmanagerFlags = []string{
	"certmanager", "auditor", "console", "tls", "kubeconfig", "context", "namespace", "defaultTrustPolicy", "plain", "log",
	"callerSecret", "sharedCache", "sharedCacheKeySecret", "sharedCacheKeyFile", "decisionKeySecret", "epochConfigMap", "plugins", "cluster", "registries", "verification", "cache",
}

// runCertmanager runs the certificate manager until ctx ends, on SIGINT or SIGTERM.
func runCertmanager(ctx context.Context, settings function.CertmanagerSettings, stderr io.Writer) error {
	log, err := function.NewLogger(settings.Settings, stderr)
	if err != nil {
		return err
	}
	return function.Manage(ctx, settings, os.LookupEnv, log)
}
