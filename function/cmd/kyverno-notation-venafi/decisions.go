package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/pflag"

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
// laid out for a reader. A line that is none, such as one that was torn, is an error after all others were read.
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
	broken, first := 0, error(nil)
	for n := 1; ; n++ {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("%s: line %d is over %d bytes", file, n, maxLine)
		}
		failed := error(nil)
		if text, ok := ledger.Record(line); ok {
			failed = one(text, do)
		} else if line = bytes.TrimSpace(line); len(line) > 0 && !ledger.OfChain(line) {
			failed = errors.New("it is no line of a log of decisions")
		}
		if failed != nil {
			broken++
			first = cmp.Or(first, fmt.Errorf("line %d: %w", n, failed))
		}
		switch {
		case errors.Is(err, io.EOF) && broken > 0:
			return fmt.Errorf("%s: %d lines cannot be read: %w", file, broken, first)
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

func (o *serviceOptions) register(flags *pflag.FlagSet) {
	flags.StringVar(&o.url, "service", "", "`URL` of a service whose GET /decisions is read.")
	flags.StringVar(&o.tokenFile, "tokenFile", "", "The `file` with the bearer token for it.")
	flags.StringVar(&o.caFile, "caFile", "", "PEM `file` with the CA of the service; else the system's.")
}

// serviceTimeout bounds a request to the service.
const serviceTimeout = 10 * time.Second

// statusError is an answer of the service that is no 200.
type statusError struct {
	code         int
	status, text string
}

// Error is a sentence.
func (e *statusError) Error() string {
	return fmt.Sprintf("the service answered %s: %s", e.status, plain(e.text))
}

// decision reads one record from the service.
func (o *serviceOptions) decision(ctx context.Context, id string) (r record.Record, err error) {
	text, err := o.get(ctx, 2*record.MaxBytes, nil, id)
	if err != nil {
		return r, err
	}
	return record.Decode(text)
}

// get reads from the service's GET /decisions, at most so many bytes.
func (o *serviceOptions) get(ctx context.Context, most int64, query url.Values, below ...string) ([]byte, error) {
	address, err := url.JoinPath(o.url, append([]string{"decisions"}, below...)...)
	if err != nil {
		return nil, fmt.Errorf("--service: %w", err)
	}
	client, err := probeClient(o.caFile)
	if err != nil {
		return nil, err
	}
	client.Timeout = serviceTimeout
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.URL.RawQuery = query.Encode()
	if o.tokenFile != "" {
		token, err := os.ReadFile(o.tokenFile)
		if err != nil {
			return nil, err
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	switch {
	case err != nil:
		return nil, err
	case response.StatusCode != http.StatusOK:
		return nil, &statusError{response.StatusCode, response.Status, string(text[:min(len(text), maxProbed)])}
	case int64(len(text)) > most:
		return nil, fmt.Errorf("the service's answer is over %d bytes", most)
	}
	return text, nil
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
