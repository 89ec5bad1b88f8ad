// Command loadgen is a load generator: it posts the body that it reads from stdin, and prints how often it got which status.
//
//	loadgen --address 10.96.1.2:80 --url http://svc.example.com/events --header "Content-Type: application/json" < body
//	loadgen --address 10.99.0.1:6443 --url https://kubernetes/api/v1/... --ca ca.crt --parallel 100 --duration 30s < body
//
// It asks no resolver, since it runs outside of pods. With --expect, the status of an answer that holds the text is printed
// with an exclamation mark. The first answer of each kind that is no success, or not as expected, goes to stderr.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxBody     = 1 << 20
	requestTime = 30 * time.Second
)

func main() {
	address := flag.String("address", "", "where to connect")
	url := flag.String("url", "", "what to post to")
	ca := flag.String("ca", "", "PEM file with the authority of an https server")
	parallel := flag.Int("parallel", 1, "senders at once")
	expect := flag.String("expect", "", "text that each answer should hold")
	duration := flag.Duration("duration", 0, "for how long each sends again; 0 sends once")
	headers := http.Header{}
	flag.Func("header", "a header as Name: value; repeatable", func(line string) error {
		name, value, found := strings.Cut(line, ": ")
		if !found {
			return fmt.Errorf("%q is no header; write Name: value", line)
		}
		headers.Add(name, value)
		return nil
	})
	flag.Parse()
	body, err := io.ReadAll(io.LimitReader(os.Stdin, maxBody))
	roots := x509.NewCertPool()
	if *ca != "" && err == nil {
		var text []byte
		text, err = os.ReadFile(*ca)
		roots.AppendCertsFromPEM(text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
	s := &generator{url: *url, headers: headers, body: body, expect: []byte(*expect), counts: map[string]int{}}
	s.client = &http.Client{Timeout: requestTime, Transport: &http.Transport{
		MaxIdleConnsPerHost: *parallel, TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: requestTime}).DialContext(ctx, network, *address)
		},
	}}
	s.sendAll(*parallel, *duration)
	for _, outcome := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Printf("%s %d\n", outcome, s.counts[outcome])
	}
}

type generator struct {
	client  *http.Client
	url     string
	headers http.Header
	body    []byte
	expect  []byte // none where it is empty

	mu     sync.Mutex
	counts map[string]int // by status, or "failed"
}

func (s *generator) sendAll(parallel int, duration time.Duration) {
	all, end := sync.WaitGroup{}, time.Now().Add(duration)
	for range parallel {
		all.Go(func() {
			s.count(s.send())
			for time.Now().Before(end) {
				s.count(s.send())
			}
		})
	}
	all.Wait()
}

func (s *generator) send() (string, error) {
	request, err := http.NewRequest(http.MethodPost, s.url, bytes.NewReader(s.body))
	if err != nil {
		return "failed", err
	}
	request.Header = s.headers.Clone()
	response, err := s.client.Do(request)
	if err != nil {
		return "failed", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	outcome, expected := fmt.Sprint(response.StatusCode), len(s.expect) > 0 && bytes.Contains(answer, s.expect)
	if expected {
		outcome += "!"
	}
	if err == nil && !expected && (len(s.expect) > 0 || response.StatusCode >= http.StatusMultipleChoices) {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	return outcome, err
}

func (s *generator) count(outcome string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts[outcome]++; err != nil && s.counts[outcome] == 1 {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
	}
}
