// Command demo shows the service at work without a cluster: it starts a registry, signs images, starts the service, and
// prints the verdict on each image. It is a command of its own, so that the service's binary contains no registry and no
// signer.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/function/cmd/internal/terminal"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// errUnexpected means that a verdict is not the one that the demonstration expects.
var errUnexpected = errors.New("the verdicts are not those expected")

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	os.Exit(report(demo(ctx, os.Args[1:], os.Stdout), os.Stdout, os.Stderr))
}

// report prints the error or help text that ended the demonstration, and returns the exit status: 1 if a verdict is not the
// expected one, 2 if there are no verdicts.
func report(err error, stdout, stderr io.Writer) int {
	var help *function.HelpError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &help):
		fmt.Fprint(stdout, help.Text)
		return 0
	case errors.Is(err, errUnexpected):
		fmt.Fprintln(stderr, err)
		return 1
	}
	fmt.Fprintln(stderr, "error:", err)
	return 2
}

// demo fills a registry of its own with images, starts the service, and prints the verdict on each image.
func demo(ctx context.Context, args []string, stdout io.Writer) error {
	var once bool
	settings, rest, err := function.LoadSettings("demo", args, os.LookupEnv, func(flags *pflag.FlagSet) {
		flags.BoolVar(&once, "once", false, "Exit after the verdicts: 0 when they are as expected, 1 otherwise.")
	})
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("demo takes no arguments, but got %q", rest)
	}
	if _, err := os.Stat(filepath.Join(settings.PluginDir, "venafi-csp", "notation-venafi-csp")); err != nil {
		return fmt.Errorf("no plugin in --pluginDir %s: run the demonstration with make run, which builds the stand-in for venafi-csp", settings.PluginDir)
	}
	dir, err := os.MkdirTemp("", "kyverno-notation-venafi-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	images := registrytest.New(registrytest.Options{})
	defer images.Close()
	platform, err := signingtest.NewPlatform()
	if err != nil {
		return err
	}
	defer func() { _ = platform.Close() }() // no client is left
	config, ca, err := platform.Write(dir)
	if err != nil {
		return err
	}
	if err := publish(ctx, images.Host(), dir, platform); err != nil {
		return err
	}
	settings.PluginConfig = map[string]string{"config": config}
	settings.TrustDir, settings.DefaultTrustPolicy = dir, scenariotest.PolicyName
	settings.InsecureRegistries, settings.AllowLoopback, settings.DrainDelay = []string{images.Host()}, true, 0
	env := func(name string) (string, bool) {
		if name == "SSL_CERT_FILE" { // the plugin trusts the CA of the demonstration's signing platform
			return ca, true
		}
		return os.LookupEnv(name)
	}
	return demonstrate(ctx, settings, env, images.Host(), once, stdout)
}

func publish(ctx context.Context, host, trustDir string, platform *signingtest.Platform) error {
	s, err := scenariotest.New(host, http.DefaultClient, true)
	if err != nil {
		return err
	}
	s.Platform = platform
	if err := s.WriteTrust(trustDir); err != nil {
		return err
	}
	return s.PublishAll(ctx)
}

// demonstrate starts the service, sends a request for every image over HTTP, and keeps the server running unless once is
// set.
func demonstrate(ctx context.Context, settings function.Settings, env function.Environment, host string, once bool, stdout io.Writer) error {
	if once {
		settings.PlainAddress = "127.0.0.1:0"
	}
	log, err := function.NewLogger(settings, io.Discard)
	if err != nil {
		return err
	}
	service, err := function.New(settings, env, log)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", settings.PlainAddress)
	if err != nil {
		return err
	}
	service.Start(ctx)
	defer service.Stop()
	serving, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- service.Serve(serving, listener) }()

	url := "http://" + reachable(listener.Addr())
	asExpected := show(ctx, url, host, stdout)
	if !once && asExpected == nil {
		invite(stdout, url, host)
		return <-served
	}
	stop()
	return errors.Join(asExpected, <-served)
}

// reachable is the loopback address with the port of address, for clients on this machine.
func reachable(address net.Addr) string {
	_, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return address.String()
	}
	return net.JoinHostPort("127.0.0.1", port)
}

// show prints a table of requests and verdicts.
func show(ctx context.Context, url, host string, stdout io.Writer) error {
	fmt.Fprintf(stdout, "Registry %s, trust policy %q. Each row is one POST %s/checkimages.\n\n", host, scenariotest.PolicyName, url)
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "IMAGE\tIT IS\tVERDICT\tSTATUS\tPATCH OR REASON")
	unexpected := 0
	for _, c := range scenariotest.Cases() {
		image := host + "/acme/" + c.Name + ":v1"
		row, err := ask(ctx, url, image, []byte(c.Request(image)))
		if err != nil {
			return err
		}
		note := ""
		if row.code != string(c.Want) {
			unexpected++
			note = fmt.Sprintf(" (expected %s, got %s)", c.Want, row.code)
		}
		fmt.Fprintf(table, "acme/%s:v1\t%s\t%s\t%d %s\t%s%s\n", c.Name, c.Tells, terminal.Verdict(stdout, row.status == http.StatusOK), row.status, row.code, row.said, note)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if unexpected > 0 {
		return fmt.Errorf("%w: %d of %d differ", errUnexpected, unexpected, len(scenariotest.Cases()))
	}
	fmt.Fprintf(stdout, "\nAll %d verdicts are as expected.\n", len(scenariotest.Cases()))
	return nil
}

// row is an answer of the service, as a row of the table.
type row struct {
	status     int
	code, said string
}

// ask posts a pod with one image to /checkimages, as Kyverno does, and to /verify for the reason code.
func ask(ctx context.Context, url, image string, body []byte) (row, error) {
	status, text, err := post(ctx, url+"/checkimages", body)
	if err != nil {
		return row{}, err
	}
	_, verdict, err := post(ctx, url+"/verify", body)
	if err != nil {
		return row{}, err
	}
	var answer struct {
		Results []struct{ Path, Image, Code, Op, Value string }
	}
	if err := json.Unmarshal(verdict, &answer); err != nil || len(answer.Results) != 1 {
		return row{}, fmt.Errorf("/verify answered %q", verdict)
	}
	result := answer.Results[0]
	said := string(text)
	if status == http.StatusOK {
		said = fmt.Sprintf("%s %s %s", result.Op, result.Path, shorten(result.Value))
	}
	return row{status: status, code: result.Code, said: strings.TrimPrefix(said, fmt.Sprintf("failed to verify container app: failed to verify image %s: ", image))}, nil
}

// shorten cuts a digest for the table.
func shorten(reference string) string {
	if i := strings.Index(reference, "@sha256:"); i >= 0 && len(reference) > i+20 {
		return reference[:i+20] + "..."
	}
	return reference
}

func post(ctx context.Context, url string, body []byte) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return response.StatusCode, text, err
}

func invite(stdout io.Writer, url, host string) {
	fmt.Fprintf(stdout, `
The server runs on. Ask it yourself, in another terminal:

  curl -s -d '%s' %s/checkimages

End it with Ctrl-C.
`, scenariotest.Cases()[0].Request(host+"/acme/signed:v1"), url)
}
