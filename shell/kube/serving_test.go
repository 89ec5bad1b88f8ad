package kube

import (
	"encoding/base64"
	"fmt"
	"sync"
	"testing"
)

// TestTLSSecret gives what the Secret holds, whenever it is there.
func TestTLSSecret(t *testing.T) {
	const path = "/api/v1/namespaces/ours/secrets"
	api := startAPI(t)
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
		encode := base64.StdEncoding.EncodeToString
		api.put(path, "tls", fmt.Sprintf(`{"type":"kubernetes.io/tls","data":{"tls.crt":%q,"tls.key":%q}}`, encode([]byte(certificate)), encode([]byte(key))))
	}
	watched := NewTLSSecret(api.client(t), "ours", "tls", (&record{}).logger(), func(certificate, key []byte) {
		mu.Lock()
		defer mu.Unlock()
		took = string(certificate) + "+" + string(key)
	})
	running(t, watched.Watch)
	eventually(t, "listed", func() bool { return watched.secret.answered(watched.link) })
	if !last("")() {
		t.Errorf("took %q from a Secret that is not there", took)
	}
	put("c1", "k1")
	eventually(t, "created", last("c1+k1"))
	put("c2", "k2")
	eventually(t, "changed", last("c2+k2"))
	api.remove(path, "tls")
	put("c3", "k3")
	eventually(t, "created anew", last("c3+k3"))
}
