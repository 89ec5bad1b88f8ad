package kube

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
)

// TestTLSSecret gives what the Secret holds, whenever it is there.
func TestTLSSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := kubetest.Start(t)
		var mu sync.Mutex
		var took string
		last := func(want string) func() bool {
			return func() bool {
				mu.Lock()
				defer mu.Unlock()
				return took == want
			}
		}
		put := func(certificate, key string) {
			api.Put(kubetest.SecretsPath, "tls", kubetest.SecretJSON("kubernetes.io/tls", map[string]string{"tls.crt": certificate, "tls.key": key}))
		}
		watched := NewTLSSecret(api.Client(t), "ours", "tls", (&kubetest.Log{}).Logger(), func(certificate, key []byte) {
			mu.Lock()
			defer mu.Unlock()
			took = string(certificate) + "+" + string(key)
		})
		kubetest.Run(t, watched.Watch)
		kubetest.Within(t, time.Second, "listed", func() bool { return watched.secret.Answered(watched.health) })
		if !last("")() {
			t.Errorf("took %q from a Secret that is not there", took)
		}
		put("c1", "k1")
		kubetest.Within(t, time.Second, "created", last("c1+k1"))
		put("c2", "k2")
		kubetest.Within(t, time.Second, "changed", last("c2+k2"))
		api.Remove(kubetest.SecretsPath + "/" + "tls")
		put("c3", "k3")
		kubetest.Within(t, time.Second, "created anew", last("c3+k3"))
	})
}
