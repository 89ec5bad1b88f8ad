package kube

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/core/recordkey"
	"github.com/nirmata/kyverno-notation-venafi/shell/issuer"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
)

// TestRecordKey gives the key that the Secret holds, and none that cannot be used.
func TestRecordKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, log := kubetest.Start(t), &kubetest.Log{}
		put := func(certificate, key []byte) {
			api.Put(kubetest.SecretsPath, "records", kubetest.SecretJSON("Opaque", map[string]string{"tls.crt": string(certificate), "tls.key": string(key)}))
		}
		newPair := func() *certificates.Pair {
			pair, err := issuer.RecordKey(recordkey.Policy{Duration: time.Hour}, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return pair
		}
		watched := NewRecordKey(api.Client(t), "ours", "records", log.Logger())
		holds := func(want *certificates.Pair) func() bool {
			return func() bool {
				have := watched.Key()
				return have == nil && want == nil || have != nil && want != nil && have.Certificate.Equal(want.Certificate)
			}
		}
		kubetest.Run(t, watched.Watch)
		kubetest.Within(t, time.Second, "connected", watched.Connected)
		if !holds(nil)() {
			t.Error("there is a key before there is a Secret")
		}
		first, second := newPair(), newPair()
		certificate, key, _ := first.PEM()
		put(certificate, key)
		kubetest.Within(t, time.Second, "created", holds(first))
		otherCertificate, otherKey, _ := second.PEM()
		put(otherCertificate, otherKey)
		kubetest.Within(t, time.Second, "replaced", holds(second))
		put(otherCertificate, key)
		kubetest.Within(t, time.Second, "a key of another certificate", holds(nil))
		if !strings.Contains(log.String(), "the private key is not that of the certificate") || strings.Contains(log.String(), strings.Split(string(key), "\n")[1]) {
			t.Errorf("it logged %s", log)
		}
		put(certificate, key)
		kubetest.Within(t, time.Second, "repaired", holds(first))
		api.Remove(kubetest.SecretsPath + "/records")
		kubetest.Within(t, time.Second, "deleted", holds(nil))
	})
}
