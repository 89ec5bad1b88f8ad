package function

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func untilDone(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// TestWhileHealthyEndsWhenItsListenerFails fails the health listener and expects an error at once.
func TestWhileHealthyEndsWhenItsListenerFails(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- whileHealthy(t.Context(), healthServer(), listener, untilDone) }()
	listener.Close()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "health questions") || !errors.Is(err, net.ErrClosed) {
			t.Errorf("error %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on")
	}
}

func TestWhileHealthyAnswersProbes(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- whileHealthy(ctx, healthServer(), listener, untilDone) }()
	response, err := http.Get("http://" + listener.Addr().String() + "/health/readiness")
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response, err)
	}
	response.Body.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestCandidateIsUnique(t *testing.T) {
	first, err := candidate()
	if err != nil {
		t.Fatal(err)
	}
	if second, _ := candidate(); first == second {
		t.Errorf("both are %s", first)
	}
}

// TestRunCertmanagerReadsItsFlags gives what must not be taken for the service without a word.
func TestRunCertmanagerReadsItsFlags(t *testing.T) {
	const away = "--kubeconfig=/nowhere/kubeconfig"
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"a second command":           {[]string{away, "serve"}, `not "serve"`},
		"a flag that there is not":   {[]string{away, "--auditt"}, "auditt"},
		"a value that means nothing": {[]string{away, "--caDuration=forever"}, "caDuration"},
		"lives that do not fit":      {[]string{away, "--certificateDuration=1s"}, "certificate"},
		"no address for probes":      {[]string{away, "--plainAddress="}, "plainAddress is empty"},
		"a cluster that is away":     {[]string{away, "--plainAddress=127.0.0.1:0"}, "/nowhere/kubeconfig"},
		"the auditor's flags":        {[]string{away, "--plainAddress=127.0.0.1:0", "--audit", "--imagePullSecrets=regcred"}, "/nowhere/kubeconfig"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := RunCertmanager(ctx, c.args, func(string) (string, bool) { return "", false }, io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v", err)
			}
		})
	}
}
