package function

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/callertoken"
	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/shell/certmanager"
)

// certmanagerLease is the Lease that certificate managers compete for.
const certmanagerLease = "kyverno-notation-venafi-certmanager"

// CertmanagerSettings are the settings of the certmanager command.
type CertmanagerSettings struct {
	Settings
	Certificates CertificateSettings
}

// CertificateSettings are the lifetimes and names of the service's certificates, and the lifetime of the token of callers.
type CertificateSettings struct {
	CADuration          time.Duration `flag:"caDuration" env:"CA_DURATION" default:"8760h" help:"Life of a CA. It signs for five sixths of it at most; then the next one does."`
	CertificateDuration time.Duration `flag:"certificateDuration" env:"CERTIFICATE_DURATION" default:"3600h" help:"Life of a serving certificate, at least 5s. After two thirds of it the next one is made."`
	PropagationDelay    time.Duration `flag:"propagationDelay" env:"PROPAGATION_DELAY" default:"5m" help:"Time within which clients that follow the published CAs learn of a new one, and replicas of a new certificate, at most a tenth of the lives above; and that replicas, and then policies, have to learn of a new token of callers."`
	CANotice            time.Duration `flag:"caNotice" env:"CA_NOTICE" default:"2880h" help:"Time for which a CA is published before it signs, for clients that read the CAs only when they start, such as Kyverno; at most a third of caDuration."`
	CACopyNamespaces    []string      `flag:"caCopyNamespaces" env:"CA_COPY_NAMESPACES" default:"kyverno" help:"Namespaces, comma-separated, in which a ConfigMap kyverno-notation-venafi-ca is given the CAs, for programs that mount them. Who wants the copy makes the ConfigMap, and the Role that lets certmanager update it; see config/kyverno."`
	CallerTokenDuration time.Duration `flag:"callerTokenDuration" env:"CALLER_TOKEN_DURATION" default:"720h" help:"Time after which the token in callerSecret is replaced, at least four times propagationDelay; 0 for never, and then what can be used in the Secret is left alone."`
	ServiceName         string        `flag:"serviceName" env:"SERVICE_NAME" default:"svc" help:"Service by which the service is called, in its namespace."`
	ExtraSANs           []string      `flag:"extraSANs" env:"EXTRA_SANS" help:"Further DNS names and IP addresses of the serving certificate, comma-separated."`
}

// CertificateFields lists the settings that only the certmanager command has, for documentation.
func CertificateFields() []*Field { return fieldsOf(&CertificateSettings{}) }

// LoadCertmanagerSettings reads the settings of certmanager; see LoadSettings.
func LoadCertmanagerSettings(args []string, env Environment) (CertmanagerSettings, []string, error) {
	var own CertificateSettings
	fields := fieldsOf(&own)
	for _, field := range fields {
		if err := field.load(env); err != nil {
			return CertmanagerSettings{}, nil, err
		}
	}
	settings, rest, err := LoadSettings("certmanager", args, env, func(flags *flag.FlagSet) {
		for _, field := range fields {
			flags.Var(field, field.Flag, field.Help)
		}
	})
	if err != nil {
		return CertmanagerSettings{}, nil, err
	}
	return CertmanagerSettings{settings, own}, rest, errors.Join(own.policy("any").Validate(), own.callerToken().Validate())
}

// callerToken is the policy of these settings for the token of callers.
func (s CertificateSettings) callerToken() callertoken.Policy {
	return callertoken.Policy{Period: s.CallerTokenDuration, Propagation: s.PropagationDelay}
}

// policy is the certificate policy of these settings for the service in a namespace.
func (s CertificateSettings) policy(namespace string) certificates.Policy {
	return certificates.Policy{
		CADuration: s.CADuration, CertificateDuration: s.CertificateDuration, Propagation: s.PropagationDelay, Notice: s.CANotice,
		Names: append(certificates.ServiceNames(s.ServiceName, namespace), s.ExtraSANs...),
	}
}

// ManageCertificates takes part in leader election until ctx ends, and as the leader keeps the service's certificates and the
// status of the trust resources up to date. Meanwhile it answers health probes on the listener; it ends with an error when
// it cannot.
func ManageCertificates(ctx context.Context, settings CertmanagerSettings, listener net.Listener, log *slog.Logger) error {
	client, err := connect(settings.Settings)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer client.Close()
	identity, err := candidate()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	return whileHealthy(ctx, listener, func(ctx context.Context) error {
		return certmanager.Lead(ctx, client, certmanagerLease, identity, log, func(ctx context.Context) {
			// Made anew in each term, so that no state of an earlier term is used.
			var parts sync.WaitGroup
			parts.Go(func() { certmanager.NewStatusWriter(client, identity, log).Run(ctx) })
			policy := settings.Certificates.policy(client.Namespace)
			others := certmanager.Others{EpochConfigMap: settings.EpochConfigMap, CallerSecret: settings.CallerSecret, CallerToken: settings.Certificates.callerToken()}
			certificates := certmanager.NewCertificates(client, policy, others, log)
			parts.Go(func() { certificates.Run(ctx) })
			parts.Go(func() { certmanager.NewCopies(certificates, settings.Certificates.CACopyNamespaces, identity).Run(ctx) })
			parts.Wait()
		})
	})
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
func whileHealthy(ctx context.Context, listener net.Listener, work func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := healthServer()
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

// healthServer answers liveness and readiness probes. It is ready at once, whether it leads or not.
func healthServer() *http.Server {
	mux := http.NewServeMux()
	for _, path := range []string{"/health/liveness", "/health/readiness"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { sendText(w, http.StatusOK, "alive") })
	}
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: 15 * time.Second}
}
