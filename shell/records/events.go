package records

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// The types of the CloudEvents. The data of each is a line of a chain, as package ledger defines it: with a record, or of the chain
// itself.
const (
	TypeDecision = "io.nirmata.notation.decision.v1"
	TypeChain    = "io.nirmata.notation.decisions.chain.v1"
)

// How events are sent.
const (
	sendTimeout = 5 * time.Second
	sendTries   = 4
	sendPause   = 250 * time.Millisecond // before the second try; twice that before the next, and so on
)

// events sends records as CloudEvents 1.0, in batches (HTTP protocol binding, section "Batched Content Mode").
type events struct {
	url, source string
	client      *http.Client
}

// event is a CloudEvent in its JSON format.
type event struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Time            time.Time       `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	Data            json.RawMessage `json:"data"`
}

func newEvents(options Options) (*events, error) {
	address, err := url.Parse(options.SinkURL)
	if err != nil || address.Host == "" || address.Scheme != "http" && address.Scheme != "https" {
		return nil, errors.New("it is no http or https URL")
	}
	client := &http.Client{
		Timeout:       sendTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &events{url: options.SinkURL, source: options.Source, client: client}, nil
}

// write sends a batch, and tries again where the sink may take it later.
func (e *events) write(ctx context.Context, batch [][]byte) error {
	body, err := e.body(batch)
	if err != nil {
		return err
	}
	pause := sendPause
	for try := 1; ; try++ {
		again, err := e.post(ctx, body)
		if err == nil || !again || try == sendTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
			pause *= 2
		}
	}
}

func (e *events) body(batch [][]byte) ([]byte, error) {
	sent := make([]event, len(batch))
	for i, line := range batch {
		var named struct {
			Chain    string `json:"chain"`
			Sequence uint64 `json:"sequence"`
			Record   *struct {
				ID   string    `json:"id"`
				Time time.Time `json:"time"`
			} `json:"record"`
		}
		if err := json.Unmarshal(line, &named); err != nil {
			return nil, err
		}
		sent[i] = event{SpecVersion: "1.0", Source: e.source, DataContentType: "application/json", Data: line}
		if named.Record != nil {
			sent[i].ID, sent[i].Type, sent[i].Time = named.Record.ID, TypeDecision, named.Record.Time
		} else {
			sent[i].ID, sent[i].Type, sent[i].Time = fmt.Sprintf("%s-%d", named.Chain, named.Sequence), TypeChain, time.Now().UTC()
		}
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // so that a record is sent as it is written
	err := encoder.Encode(sent)
	return body.Bytes(), err
}

// post sends a body once. again is whether it may be sent again.
func (e *events) post(ctx context.Context, body []byte) (again bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	request.Header.Set("Content-Type", "application/cloudevents-batch+json; charset=utf-8")
	response, err := e.client.Do(request)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) { // its text has the URL, which may hold a secret
			err = failed.Err
		}
		return true, fmt.Errorf("the sink cannot be reached: %w", err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)) // so that the connection can be used again
	switch status := response.StatusCode; {
	case status < 300:
		return false, nil
	case status >= 500, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		return true, fmt.Errorf("the sink answered %s", response.Status)
	}
	return false, fmt.Errorf("the sink answered %s", response.Status)
}

func (e *events) close() error {
	e.client.CloseIdleConnections()
	return nil
}
