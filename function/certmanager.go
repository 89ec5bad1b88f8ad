package function

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/kube"
)

// certmanagerLease is the Lease that certificate managers compete for.
const certmanagerLease = "kyverno-notation-venafi-certmanager"

// ManageCertificates stands for election until ctx ends, and as the leader keeps the status of the trust resources
// true. It answers health questions on the listener meanwhile.
func ManageCertificates(ctx context.Context, settings Settings, listener net.Listener, log *slog.Logger) error {
	client, err := connect(settings)
	if err != nil {
		return err
	}
	defer client.Close()
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("name of this candidate: %w", err)
	}
	server := healthServer()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	identity := host + "-" + strconv.Itoa(os.Getpid())
	err = client.Lead(ctx, certmanagerLease, identity, log, func(ctx context.Context) {
		kube.NewStatusWriter(client, log).Run(ctx) // anew each time, so that nothing known from before is believed
	})
	if closed := server.Close(); err == nil {
		err = closed
	}
	<-served
	return err
}

// healthServer tells that the process lives. It is ready at once: who leads does not matter to its callers.
func healthServer() *http.Server {
	mux := http.NewServeMux()
	for _, path := range []string{"/health/liveness", "/health/readiness"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { sendText(w, http.StatusOK, "alive") })
	}
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: 15 * time.Second}
}
