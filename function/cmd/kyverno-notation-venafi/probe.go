package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"
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

// probe asks an address until it answers 200 or time runs out, as the image has no other program to ask with.
func probe(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("probe", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	caFile := flags.String("caFile", "", "PEM `file` of the only CAs to trust; the system's, if there is none.")
	timeout := flags.Duration("timeout", 10*time.Second, "Time within which the address must answer 200.")
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(stdout)
		flags.Usage()
		return exitAnswered
	}
	if err != nil {
		return report(err, stdout, stderr)
	}
	address, err := url.Parse(flags.Arg(0))
	if err != nil || flags.NArg() != 1 || address.Scheme != "https" && address.Scheme != "http" || address.Host == "" {
		return report(errors.New("probe takes one address, http://... or https://..., after its flags"), stdout, stderr)
	}
	client, err := probeClient(*caFile)
	if err != nil {
		return report(err, stdout, stderr)
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	answer, err := answered(ctx, client, address.String())
	if err != nil {
		fmt.Fprintf(stderr, "no 200 within %s: %v\n", *timeout, err)
		return exitUnanswered
	}
	fmt.Fprintf(stdout, "%s\n", answer)
	return exitAnswered
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
