package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/nirmata/kyverno-notation-venafi/function"
)

// certmanager runs the certificate manager until ctx ends, on SIGINT or SIGTERM.
func certmanager(ctx context.Context, args []string, stderr io.Writer) error {
	settings, rest, err := function.LoadCertmanagerSettings(args, os.LookupEnv)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("certmanager takes no arguments, but got %q", rest)
	}
	log, err := function.NewLogger(settings.Settings, stderr)
	if err != nil {
		return err
	}
	if settings.PlainAddress == "" {
		return errors.New("plainAddress is empty, and certmanager is asked for its health there")
	}
	listener, err := net.Listen("tcp", settings.PlainAddress)
	if err != nil {
		return err
	}
	return function.ManageCertificates(ctx, settings, listener, log)
}
