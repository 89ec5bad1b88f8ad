package kube

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
)

// TestSharedKey gives the keys that the Secret holds, two while one replaces the other, and none that could be guessed.
func TestSharedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const first, second = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "765432ZYXWVUTSRQPONMLKJIHGFEDCBA"
		api, log := kubetest.Start(t), &kubetest.Log{}
		put := func(data map[string]string) {
			api.Put(kubetest.SecretsPath, "shared", kubetest.SecretJSON("Opaque", data))
		}
		watched := NewSharedKey(api.Client(t), "ours", "shared", "build 1", log.Logger())
		names := func() (names string) {
			for _, slot := range watched.Keyring().Slots(verification.Lookup{Kind: verification.Conclude}) {
				names += slot.Name + " "
			}
			return names
		}
		kubetest.Run(t, watched.Watch)
		kubetest.Within(t, time.Second, "connected", func() bool { return watched.Connected() && watched.Synced() })
		if names() != "" {
			t.Error("there is a key before there is a Secret")
		}
		put(map[string]string{"token": first})
		kubetest.Within(t, time.Second, "created", func() bool { return strings.Count(names(), " ") == 1 })
		before := names()
		put(map[string]string{"token": first, "next": second})
		kubetest.Within(t, time.Second, "the next one opens", func() bool { return strings.Count(names(), " ") == 2 && strings.HasPrefix(names(), before) })
		put(map[string]string{"token": second, "previous": first})
		kubetest.Within(t, time.Second, "and seals", func() bool { return strings.Count(names(), " ") == 2 && strings.HasSuffix(names(), before) })
		put(map[string]string{"token": "guess"})
		kubetest.Within(t, time.Second, "one that could be guessed", func() bool { return names() == "" })
		if strings.Contains(log.String(), first) || strings.Contains(log.String(), "guess\"") {
			t.Errorf("it logged %s", log)
		}
		put(map[string]string{"token": first})
		kubetest.Within(t, time.Second, "repaired", func() bool { return names() == before })
		api.Remove(kubetest.SecretsPath + "/shared")
		kubetest.Within(t, time.Second, "deleted", func() bool { return names() == "" })
	})
}
