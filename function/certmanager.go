package function

import (
	"errors"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/callertoken"
	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/core/recordkey"
)

// CertmanagerSettings are the settings of the certmanager command.
type CertmanagerSettings struct {
	Settings
	Certificates CertificateSettings
	Auditor      AuditorSettings
	Console      ConsoleSettings
}

// CertificateSettings are the lifetimes and names of the service's certificates, and the lifetimes of the token of callers, of the key
// that seals what replicas share and of the key that signs decision records.
type CertificateSettings struct {
	CADuration          time.Duration `flag:"caDuration" for:"certmanager" env:"CA_DURATION" default:"8760h" help:"Life of a CA. It signs for five sixths of it at most; then the next one does."`
	CertificateDuration time.Duration `flag:"certificateDuration" for:"certmanager" env:"CERTIFICATE_DURATION" default:"3600h" help:"Life of a serving certificate, at least 5s. After two thirds of it the next one is made."`
	PropagationDelay    time.Duration `flag:"propagationDelay" for:"certmanager" env:"PROPAGATION_DELAY" default:"5m" help:"Time within which clients that follow the published CAs learn of a new one, and replicas of a new certificate, at most a tenth of the lives above; and that replicas, and then policies, have to learn of a new token of callers."`
	CANotice            time.Duration `flag:"caNotice" for:"certmanager" env:"CA_NOTICE" default:"2880h" help:"Time for which a CA is published before it signs, for clients that read the CAs only when they start, such as Kyverno; at most a third of caDuration."`
	CACopyNamespaces    []string      `flag:"caCopyNamespaces" for:"certmanager" env:"CA_COPY_NAMESPACES" default:"kyverno" help:"Namespaces, comma-separated, in which a ConfigMap kyverno-notation-venafi-ca is given the CAs, for programs that mount them. Who wants the copy makes the ConfigMap, and the Role that lets certmanager update it; see config/kyverno."`
	CallerTokenDuration time.Duration `flag:"callerTokenDuration" for:"certmanager" env:"CALLER_TOKEN_DURATION" default:"720h" help:"Time after which the token in callerSecret is replaced, at least four times propagationDelay; 0 for never, and then what can be used in the Secret is left alone."`
	SharedKeyDuration   time.Duration `flag:"sharedKeyDuration" for:"certmanager" env:"SHARED_KEY_DURATION" default:"720h" help:"Time after which the key in sharedCacheKeySecret is replaced, at least four times propagationDelay; 0 for never."`
	DecisionKeyDuration time.Duration `flag:"decisionKeyDuration" for:"certmanager" env:"DECISION_KEY_DURATION" default:"2160h" help:"Time for which a key that signs decision records, in decisionKeySecret, is valid, at least 1h. After two thirds of it the next one signs; the public keys stay published. 0 for no key."`
	ServiceName         string        `flag:"serviceName" for:"certmanager" env:"SERVICE_NAME" default:"svc" help:"Service by which the service is called, in its namespace."`
	ExtraSANs           []string      `flag:"extraSANs" for:"certmanager" env:"EXTRA_SANS" help:"Further DNS names and IP addresses of the serving certificate, comma-separated."`
}

// CertificateFields lists the settings that only the certmanager command has, for documentation.
func CertificateFields() []*Field { return fieldsOf(&CertificateSettings{}) }

// Flags are the settings of certmanager.
func (s *CertmanagerSettings) Flags() Flags {
	return FlagsOf(&s.Settings, &s.Certificates, &s.Auditor, &s.Console)
}

// Validate checks what the settings say of themselves.
func (s CertmanagerSettings) Validate() error {
	if err := s.Settings.Validate(); err != nil {
		return err
	}
	return errors.Join(s.Certificates.Policy("any").Validate(), s.Certificates.CallerToken().Validate(), s.Certificates.SharedKey().Validate(), s.Certificates.RecordKey().Validate(), s.Auditor.validate())
}

// CallerToken is the policy of these settings for the token of callers.
func (s CertificateSettings) CallerToken() callertoken.Policy {
	return callertoken.Policy{Period: s.CallerTokenDuration, Propagation: s.PropagationDelay}
}

// SharedKey is the policy of these settings for the key that seals what replicas share.
func (s CertificateSettings) SharedKey() callertoken.Policy {
	return callertoken.Policy{Period: s.SharedKeyDuration, Propagation: s.PropagationDelay}
}

// RecordKey is the policy of these settings for the key that signs decision records.
func (s CertificateSettings) RecordKey() recordkey.Policy {
	return recordkey.Policy{Duration: s.DecisionKeyDuration}
}

// Policy is the certificate policy of these settings for the service in a namespace.
func (s CertificateSettings) Policy(namespace string) certificates.Policy {
	return certificates.Policy{
		CADuration: s.CADuration, CertificateDuration: s.CertificateDuration, Propagation: s.PropagationDelay, Notice: s.CANotice,
		Names: append(certificates.ServiceNames(s.ServiceName, namespace), s.ExtraSANs...),
	}
}
