package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// The exit statuses of probe, beside 2 for a wrong command line or file.
const (
	exitAnswered   = 0
	exitUnanswered = 1
)

// Bounds of probe: a network policy that lets it in may take some seconds to hold.
const (
	probeInterval = time.Second
	maxProbed     = 1 << 10 // bytes of an answer that are printed
)

func newProbe() *cobra.Command {
	command := &cobra.Command{
		Use: "probe URL", Short: "Ask an address until it answers 200",
		Long:    "Asks an address until it answers 200 or time runs out, as the image has no other program to ask with. It exits with 1 when there was no 200.",
		Example: "  {program} probe --caFile ca.crt https://svc.kyverno-notation-venafi.svc/health/readiness",
	}
	caFile := command.Flags().String("caFile", "", "PEM `file` of the only CAs to trust; the system's, if there is none.")
	timeout := command.Flags().Duration("timeout", 10*time.Second, "The `time` within which the address must answer 200.")
	command.RunE = runs(func(c *cobra.Command, args []string) (int, error) {
		return probe(c.Context(), args, *caFile, *timeout, c.OutOrStdout(), c.ErrOrStderr())
	})
	return command
}

// probe asks an address until it answers 200 or time runs out.
func probe(ctx context.Context, args []string, caFile string, timeout time.Duration, stdout, stderr io.Writer) (int, error) {
	address, err := url.Parse(strings.Join(args, " "))
	if err != nil || len(args) != 1 || address.Scheme != "https" && address.Scheme != "http" || address.Host == "" {
		return 0, errors.New("probe takes one address, by http:// or https://, and a host")
	}
	client, err := probeClient(caFile)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, err := answered(ctx, client, address.String())
	if err != nil {
		fmt.Fprintf(stderr, "no 200 within %s: %s\n", timeout, plain(err.Error()))
		return exitUnanswered, nil
	}
	_, err = fmt.Fprintln(stdout, plain(string(answer)))
	return exitAnswered, err
}

// probeClient trusts the CAs of a file; "" stands for the system's.
func probeClient(caFile string) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		text, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("caFile: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("caFile: %s holds no PEM certificate", caFile)
		}
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: config, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// answered asks until there is a 200, and gives its body. When ctx ends, the error is that of the last answer.
func answered(ctx context.Context, client *http.Client, address string) (body []byte, err error) {
	for {
		answer, asked := ask(ctx, client, address)
		if asked == nil {
			return answer, nil
		}
		if err == nil || ctx.Err() == nil { // the end of time says less than what was before
			err = asked
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(probeInterval):
		}
	}
}

func ask(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxProbed))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s: %q", address, response.Status, body)
	}
	return body, nil
}
