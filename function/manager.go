package function

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/certmanager"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// certmanagerLease is the Lease that certificate managers compete for.
const certmanagerLease = "kyverno-notation-venafi-certmanager"

// RunCertmanager is Manage for a program without commands: the settings are those of the environment and of the flags in args, and
// the log goes to stderr.
func RunCertmanager(ctx context.Context, args []string, env Environment, stderr io.Writer) error {
	var settings CertmanagerSettings
	rest, err := parse("certmanager", args, env, nil, &settings.Settings, &settings.Certificates, &settings.Auditor, &settings.Console)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("certmanager takes flags only, not %q", rest[0])
	}
	if err == nil {
		err = settings.Validate()
	}
	if err != nil {
		return err
	}
	log, err := NewLogger(settings.Settings, stderr)
	if err != nil {
		return err
	}
	return Manage(ctx, settings, env, log)
}

// Manage runs the certificate manager until ctx ends: as one leader among replicas it keeps the service's certificates, its callers'
// tokens and the status of the trust resources up to date, and audits what runs where that is on. It answers health probes on
// PlainAddress, and fails where it cannot.
func Manage(ctx context.Context, settings CertmanagerSettings, env Environment, log *slog.Logger) error {
	if settings.PlainAddress == "" {
		return errors.New("plainAddress is empty, and certmanager is asked for its health there")
	}
	listener, err := net.Listen("tcp", settings.PlainAddress)
	if err != nil {
		return err
	}
	return manageCertificates(ctx, settings, env, listener, log)
}

// manageCertificates takes part in leader election until ctx ends, and does what Manage says as the leader. Meanwhile it answers
// health probes on the listener, which it closes; it ends with an error when it cannot.
func manageCertificates(ctx context.Context, settings CertmanagerSettings, env Environment, listener net.Listener, log *slog.Logger) error {
	client, err := settings.Connect()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer client.Close()
	identity, err := candidate()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	var auditor *Auditor
	server := healthServer()
	if settings.Auditor.Audit {
		if auditor, err = NewAuditor(settings, identity, env, log); err != nil {
			return errors.Join(err, listener.Close())
		}
		server = healthServer(route{"/metrics", auditor.MetricsHandler()})
	}
	stopConsole, err := startConsole(ctx, settings, client, log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer stopConsole()
	return whileHealthy(ctx, server, listener, func(ctx context.Context) error {
		return certmanager.Lead(ctx, client, certmanagerLease, identity, log, func(ctx context.Context) {
			// Made anew in each term, so that no state of an earlier term is used.
			var parts sync.WaitGroup
			parts.Go(func() { certmanager.NewStatusWriter(client, identity, log).Run(ctx) })
			policy := settings.Certificates.Policy(client.Namespace)
			others := certmanager.Others{EpochConfigMap: settings.EpochConfigMap, CallerSecret: settings.CallerSecret, CallerToken: settings.Certificates.CallerToken(),
				SharedKeys: settings.SharedKeys(), SharedKey: settings.Certificates.SharedKey(), RecordKeys: settings.DecisionKeySecret, RecordKey: settings.Certificates.RecordKey()}
			certificates := certmanager.NewCertificates(client, policy, others, log)
			parts.Go(func() { certificates.Run(ctx) })
			parts.Go(func() { certmanager.NewCopies(certificates, settings.Certificates.CACopyNamespaces, identity).Run(ctx) })
			if auditor != nil {
				parts.Go(func() { auditor.Run(ctx) })
			}
			parts.Wait()
		})
	})
}

// startConsole serves the console, whether this process leads or not, until stop is called; it does nothing where the console has no
// address. Certificates are kept whatever becomes of it.
func startConsole(ctx context.Context, settings CertmanagerSettings, client *kubeclient.Client, log *slog.Logger) (stop func(), err error) {
	if settings.Console.Address == "" {
		return func() {}, nil
	}
	pages, err := NewClusterConsole(settings.Settings, settings.Console, client, nil, log)
	if err != nil {
		return nil, err
	}
	listener, err := pages.Listen()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		if err := pages.Serve(ctx, listener); err != nil {
			log.Error("the console ended", "error", err)
		}
	})
	return func() { cancel(); running.Wait() }, nil
}

// candidate is the identity of this process in leader election: the pod's name, and a random part that differs after a
// restart in the same pod.
func candidate() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("name of this candidate: %w", err)
	}
	return host + "-" + rand.Text()[:8], nil
}

// whileHealthy runs work until ctx ends or the health server fails. The latter is an error: the kubelet would kill the process
// anyway, and this way its log says why.
func whileHealthy(ctx context.Context, server *http.Server, listener net.Listener, work func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		served <- server.Serve(listener)
		cancel()
	}()
	err := work(ctx)
	if closed := server.Close(); err == nil {
		err = closed
	}
	if failed := <-served; !errors.Is(failed, http.ErrServerClosed) {
		return errors.Join(fmt.Errorf("answering health questions on %s: %w", listener.Addr(), failed), err)
	}
	return err
}

// route is a path beside those of the probes.
type route struct {
	path    string
	handler http.Handler
}

// healthServer answers liveness and readiness probes. It is ready at once, whether it leads or not.
func healthServer(routes ...route) *http.Server {
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.Handle("GET "+r.path, r.handler)
	}
	for _, path := range []string{"/health/liveness", "/health/readiness"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "alive") })
	}
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: 15 * time.Second}
}
