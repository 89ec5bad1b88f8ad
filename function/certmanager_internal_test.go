package function

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/callertoken"
)

func loadCertmanagerSettings(args []string, env Environment) (CertmanagerSettings, error) {
	var s CertmanagerSettings
	_, err := parse("certmanager", args, env, nil, &s.Settings, &s.Certificates, &s.Auditor, &s.Console)
	return s, errors.Join(err, s.Validate())
}

// TestCertmanagerSettings reads the settings from flags and environment.
func TestCertmanagerSettings(t *testing.T) {
	tests := map[string]struct {
		args []string
		env  map[string]string
		want func(CertmanagerSettings) bool
		fail string
	}{
		"nothing set gives a year and 150 days": {nil, nil, func(s CertmanagerSettings) bool {
			return s.Certificates.CADuration == 365*24*time.Hour && s.Certificates.CertificateDuration == 150*24*time.Hour && s.Certificates.PropagationDelay == 5*time.Minute &&
				s.Certificates.CANotice == 120*24*time.Hour && strings.Join(s.Certificates.CACopyNamespaces, " ") == "kyverno"
		}, ""},
		"the names are those of the Service": {nil, nil, func(s CertmanagerSettings) bool {
			return strings.Join(s.Certificates.Policy("ns").Names, " ") == "svc.ns.svc svc.ns.svc.cluster.local svc.ns"
		}, ""},
		"another Service and more names": {[]string{"--serviceName", "front", "--extraSANs=a.example.com,10.0.0.1"}, nil, func(s CertmanagerSettings) bool {
			return strings.Join(s.Certificates.Policy("ns").Names, " ") == "front.ns.svc front.ns.svc.cluster.local front.ns a.example.com 10.0.0.1"
		}, ""},
		"a flag goes before the environment": {[]string{"--caDuration", "48h"}, map[string]string{"CA_DURATION": "72h", "CERTIFICATE_DURATION": "24h"}, func(s CertmanagerSettings) bool {
			return s.Certificates.CADuration == 48*time.Hour && s.Certificates.CertificateDuration == 24*time.Hour
		}, ""},
		"what serve has is there too": {[]string{"--namespace", "here"}, nil, func(s CertmanagerSettings) bool { return s.Namespace == "here" }, ""},
		"the token of callers lasts a month": {nil, nil, func(s CertmanagerSettings) bool {
			return s.Certificates.CallerToken() == callertoken.Policy{Period: 720 * time.Hour, Propagation: 5 * time.Minute}
		}, ""},
		"it may last for ever": {[]string{"--callerTokenDuration", "0"}, nil, func(s CertmanagerSettings) bool { return s.Certificates.CallerToken().Period == 0 }, ""},
		"a key for records lasts 90 days": {nil, nil, func(s CertmanagerSettings) bool {
			return s.Certificates.RecordKey().Duration == 90*24*time.Hour && s.DecisionKeySecret == "kyverno-notation-venafi-records"
		}, ""},
		"it may be none": {[]string{"--decisionKeyDuration", "0"}, nil, func(s CertmanagerSettings) bool { return s.Certificates.RecordKey().Duration == 0 }, ""},
		"a key for records of a minute is refused":               {[]string{"--decisionKeyDuration", "1m"}, nil, nil, "at least an hour"},
		"a token that is replaced before it is known is refused": {[]string{"--propagationDelay", "1h"}, map[string]string{"CALLER_TOKEN_DURATION": "3h"}, nil, "at least 4 times"},
		"a life of a second is refused":                          {[]string{"--certificateDuration", "1s"}, nil, nil, "at least 5s"},
		"a CA that ends too early is refused":                    {[]string{"--caDuration", "24h"}, nil, nil, "must not be less"},
		"a negative delay is refused":                            {[]string{"--propagationDelay", "-1s"}, nil, nil, "negative"},
		"a duration that is none is refused":                     {nil, map[string]string{"CA_DURATION": "long"}, nil, "CA_DURATION"},
		"an epoch without a name is refused":                     {[]string{"--epochConfigMap="}, nil, nil, "epochConfigMap"},
		"settings of the others that are refused":                {[]string{"--maxParallel", "0"}, nil, nil, "maxParallel"},
		"no copies":                    {[]string{"--caCopyNamespaces="}, nil, func(s CertmanagerSettings) bool { return len(s.Certificates.CACopyNamespaces) == 0 }, ""},
		"a negative notice is refused": {[]string{"--caNotice", "-1s"}, nil, nil, "negative"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			env := func(name string) (string, bool) { value, ok := test.env[name]; return value, ok }
			settings, err := loadCertmanagerSettings(test.args, env)
			switch {
			case test.fail != "" && (err == nil || !strings.Contains(err.Error(), test.fail)):
				t.Errorf("error %v; want one that names %s", err, test.fail)
			case test.fail == "" && err != nil:
				t.Error(err)
			case test.fail == "" && !test.want(settings):
				t.Errorf("settings %+v", settings)
			}
		})
	}
}
