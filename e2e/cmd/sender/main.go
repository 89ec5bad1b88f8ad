// Command sender posts what it reads on stdin, and prints how often it got which status.
//
//	sender --address 10.96.1.2:80 --host svc.example.com --path /events --header "Content-Type: application/json" < body
//	sender --address 10.96.1.2:80 --host svc.example.com --path /verify --parallel 100 --duration 30s < body
//
// It names the host without asking a resolver, since it runs outside of pods. The last body that was no success goes to
// stderr.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"maps"
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
	host := flag.String("host", "", "the host to ask for")
	path := flag.String("path", "/", "the path to post to")
	parallel := flag.Int("parallel", 1, "senders at once")
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
	if err != nil {
		fmt.Fprintln(os.Stderr, "sender:", err)
		os.Exit(1)
	}
	s := &sender{url: "http://" + *address + *path, host: *host, headers: headers, body: body, counts: map[string]int{}}
	s.client = &http.Client{Timeout: requestTime, Transport: &http.Transport{MaxIdleConnsPerHost: *parallel}}
	s.sendAll(*parallel, *duration)
	for _, outcome := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Printf("%s %d\n", outcome, s.counts[outcome])
	}
}

type sender struct {
	client    *http.Client
	url, host string
	headers   http.Header
	body      []byte

	mu     sync.Mutex
	counts map[string]int // by status, or "failed"
}

func (s *sender) sendAll(parallel int, duration time.Duration) {
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

func (s *sender) send() (string, error) {
	request, err := http.NewRequest(http.MethodPost, s.url, bytes.NewReader(s.body))
	if err != nil {
		return "failed", err
	}
	request.Host, request.Header = s.host, s.headers.Clone()
	response, err := s.client.Do(request)
	if err != nil {
		return "failed", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err == nil && response.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	return fmt.Sprint(response.StatusCode), err
}

func (s *sender) count(outcome string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts[outcome]++; err != nil && s.counts[outcome] == 1 {
		fmt.Fprintln(os.Stderr, "sender:", err)
	}
}
