package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/nirmata/kyverno-notation-venafi/function"
)

func newServe() *cobra.Command {
	command := &cobra.Command{
		Use: "serve", Short: "Answer POST /checkimages and /verify; the default", Args: noArguments,
		Long:    "Runs the service that Kyverno asks, until SIGINT or SIGTERM.",
		Example: "  {program} serve --trustDir config/samples/trust",
	}
	read := withSettings(command)
	command.RunE = func(c *cobra.Command, _ []string) error {
		settings, err := read()
		if err != nil {
			return err
		}
		log, err := function.NewLogger(settings, c.ErrOrStderr())
		if err != nil {
			return err
		}
		service, err := function.New(settings, os.LookupEnv, log)
		if err != nil {
			return err
		}
		listeners, err := service.Listen()
		if err != nil {
			return err
		}
		service.Start(c.Context())
		defer service.Stop()
		return service.Serve(c.Context(), listeners...)
	}
	return command
}
