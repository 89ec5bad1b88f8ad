package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/ledger"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/function"
)

// decisionID is the id of a decision.
var decisionID = regexp.MustCompile(`^[0-9A-HJKMNP-TV-Z]{26}$`)

// maxLine bounds a line of a log, bytes: a record with its place in a chain.
const maxLine = 3 * record.MaxBytes

// eachRecord calls do for the records of a file, "-" for standard input: the lines of a log, chained or not, or one record that was
// laid out for a reader.
func eachRecord(file string, do func(record.Record) error) error {
	from, err := openInput(file)
	if err != nil {
		return err
	}
	defer from.Close()
	lines := bufio.NewReaderSize(from, maxLine)
	if head, _ := lines.Peek(2); string(bytes.TrimSpace(head)) == "{" {
		text, err := io.ReadAll(io.LimitReader(lines, 2*record.MaxBytes+1))
		if err != nil {
			return err
		}
		return one(text, do)
	}
	for n := 1; ; n++ {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("%s: line %d is over %d bytes", file, n, maxLine)
		}
		if text, ok := ledger.Record(line); ok {
			if failed := one(text, do); failed != nil {
				return fmt.Errorf("%s: line %d: %w", file, n, failed)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func one(text []byte, do func(record.Record) error) error {
	r, err := record.Decode(text)
	if err != nil {
		return err
	}
	return do(r)
}

// serviceOptions say how to reach a service that shows its decisions.
type serviceOptions struct{ url, tokenFile, caFile string }

func (o *serviceOptions) register(flags *flag.FlagSet) {
	flags.StringVar(&o.url, "service", "", "`URL` of a service whose GET /decisions is read.")
	flags.StringVar(&o.tokenFile, "tokenFile", "", "`File` with the bearer token for it.")
	flags.StringVar(&o.caFile, "caFile", "", "PEM `file` with the CA of the service; else the system's.")
}

// serviceTimeout bounds a request to the service.
const serviceTimeout = 10 * time.Second

// decision reads one record from the service.
func (o *serviceOptions) decision(ctx context.Context, id string) (r record.Record, err error) {
	address, err := url.JoinPath(o.url, "decisions", id)
	if err != nil {
		return r, fmt.Errorf("--service: %w", err)
	}
	client, err := probeClient(o.caFile)
	if err != nil {
		return r, err
	}
	client.Timeout = serviceTimeout
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return r, err
	}
	if o.tokenFile != "" {
		token, err := os.ReadFile(o.tokenFile)
		if err != nil {
			return r, err
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	response, err := client.Do(request)
	if err != nil {
		return r, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 2*record.MaxBytes+1))
	switch {
	case err != nil:
		return r, err
	case response.StatusCode != http.StatusOK:
		return r, fmt.Errorf("the service answered %s: %s", response.Status, plain(string(text)))
	}
	return record.Decode(text)
}

// explainer has an engine, and the trust in force.
func explainer(ctx context.Context, settings function.Settings, stderr io.Writer) (*function.Audit, trust.Snapshot, error) {
	engine, err := function.NewAudit(settings, os.LookupEnv)
	if err != nil {
		return nil, trust.Snapshot{}, err
	}
	resources, problems, err := engine.Trust(ctx)
	if err != nil {
		engine.Close()
		return nil, trust.Snapshot{}, err
	}
	warn(stderr, "", problems)
	snapshot, problems := resources.Compile()
	warn(stderr, "", problems)
	return engine, snapshot.Sealed(), nil
}
