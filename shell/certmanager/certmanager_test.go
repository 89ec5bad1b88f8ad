package certmanager

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/nirmata/kyverno-notation-venafi/core/callertoken"
	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
)

const (
	authorityPath = kubetest.SecretsPath + "/" + AuthoritySecret
	servingPath   = kubetest.SecretsPath + "/" + ServingSecret
	bundlePath    = kubetest.ConfigMapsPath + "/" + BundleConfigMap
	epochPath     = kubetest.ConfigMapsPath + "/epoch"
	callerPath    = kubetest.SecretsPath + "/caller"
)

func others() Others {
	return Others{EpochConfigMap: "epoch", CallerSecret: "caller", CallerToken: callertoken.Policy{Period: 720 * time.Hour, Propagation: 5 * time.Minute}}
}

func longLived() certificates.Policy {
	return certificates.Policy{CADuration: 8760 * time.Hour, CertificateDuration: 3600 * time.Hour, Propagation: 5 * time.Minute, Notice: 2880 * time.Hour, Names: []string{"svc.ours.svc", "127.0.0.1"}}
}

// cluster is an API server and what a certificate manager keeps on it.
type cluster struct{ *kubetest.Server }

func start(t *testing.T) cluster { return cluster{kubetest.Start(t)} }

// stored gives a value of a Secret or ConfigMap; "" where it is missing.
func (c cluster) stored(path, key string) string {
	data, _ := c.Object(path)["data"].(map[string]any)
	value, _ := data[key].(string)
	if decoded, err := base64.StdEncoding.DecodeString(value); err == nil && strings.Contains(path, "/secrets/") {
		return string(decoded)
	}
	return value
}

// verified gives an error unless the stored serving certificate has its key, and verifies with the stored bundle.
func (c cluster) verified(names ...string) error {
	pair, err := tls.X509KeyPair([]byte(c.stored(servingPath, "tls.crt")), []byte(c.stored(servingPath, "tls.key")))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(c.stored(bundlePath, "ca.crt")))
	for _, name := range names {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			return err
		}
	}
	return nil
}

func (c cluster) exists(path string) bool { return c.Object(path) != nil }

func (c cluster) label(path, name string) string {
	metadata, _ := c.Object(path)["metadata"].(map[string]any)
	labels, _ := metadata["labels"].(map[string]any)
	value, _ := labels[name].(string)
	return value
}

// manage runs a manager, and waits for the first certificates.
func manage(t *testing.T, api cluster, policy certificates.Policy) *kubetest.Log {
	t.Helper()
	log := &kubetest.Log{}
	kubetest.Run(t, NewCertificates(api.Client(t), policy, others(), log.Logger()).Run)
	kubetest.Within(t, 5*time.Second, "certificates", func() bool {
		return api.verified("svc.ours.svc", "127.0.0.1") == nil && api.exists(epochPath) && api.exists(callerPath)
	})
	return log
}

func TestCertificatesAreIssued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := start(t)
		manage(t, api, longLived())
		if api.label(bundlePath, "cache.kyverno.io/enabled") != "true" {
			t.Error("Kyverno does not keep the bundle")
		}
		if n := len(certificates.ParseBundle([]byte(api.stored(bundlePath, "ca.crt")))); n != 1 {
			t.Errorf("the bundle holds %d CAs", n)
		}
		var types []string
		for _, name := range api.Names(kubetest.SecretsPath) {
			types = append(types, fmt.Sprint(api.Object(kubetest.SecretsPath + "/" + name)["type"]))
		}
		if slices.Sort(types); strings.Join(types, " ") != "Opaque kubernetes.io/tls kubernetes.io/tls" {
			t.Errorf("the Secrets' types are %v", types)
		}
		if api.stored(servingPath, "ca.crt") != api.stored(bundlePath, "ca.crt") {
			t.Error("the Secret's ca.crt is not the bundle")
		}
	})
}

// TestCertificatesRepairDamage deletes and corrupts the objects one by one, and expects that what clients trust stays
// trusted.
func TestCertificatesRepairDamage(t *testing.T) {
	set := func(key, value string) func(object, metadata map[string]any) {
		return func(object, _ map[string]any) {
			object["data"].(map[string]any)[key] = value
		}
	}
	garbage := base64.StdEncoding.EncodeToString([]byte("garbage"))
	tests := map[string]struct {
		path    string
		edit    func(object, metadata map[string]any) // nil deletes
		waiting bool                                  // for clients to learn of a new CA, with the old certificate
	}{
		"the CA's Secret is deleted":        {authorityPath, nil, true},
		"the CA's key is garbled":           {authorityPath, set("tls.key", garbage), true},
		"the serving Secret is deleted":     {servingPath, nil, false},
		"the serving certificate's garbled": {servingPath, set("tls.crt", garbage), false},
		"the serving key is garbled":        {servingPath, set("tls.key", garbage), false},
		"the serving data are gone":         {servingPath, func(object, _ map[string]any) { delete(object, "data") }, false},
		"the copy of the bundle is garbled": {servingPath, set("ca.crt", garbage), false},
		"the bundle is deleted":             {bundlePath, nil, false},
		"the bundle is garbled":             {bundlePath, set("ca.crt", "garbage"), false},
		"the bundle's label is removed":     {bundlePath, func(_, metadata map[string]any) { delete(metadata, "labels") }, false},
		"the epoch is deleted":              {epochPath, nil, false},
		"the callers' token is deleted":     {callerPath, nil, false},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := start(t)
				manage(t, api, longLived())
				before, bundle := api.stored(servingPath, "tls.crt"), strings.TrimSpace(api.stored(bundlePath, "ca.crt"))
				if test.edit == nil {
					api.Remove(test.path)
				} else {
					api.Change(t, test.path, test.edit)
				}
				kubetest.Within(t, 5*time.Second, "repaired", func() bool {
					_, err := certificates.ParseAuthority([]byte(api.stored(authorityPath, "tls.crt")), []byte(api.stored(authorityPath, "tls.key")))
					return err == nil && api.verified("svc.ours.svc") == nil && api.exists(epochPath) && api.exists(callerPath) &&
						strings.Contains(api.stored(bundlePath, "ca.crt"), bundle) && strings.Contains(api.stored(servingPath, "ca.crt"), bundle) &&
						api.label(bundlePath, "cache.kyverno.io/enabled") == "true" &&
						strings.Contains(api.stored(bundlePath, "ca.crt"), api.stored(authorityPath, "tls.crt"))
				})
				if test.waiting && api.stored(servingPath, "tls.crt") != before {
					t.Error("a CA signed that clients do not know yet")
				}
			})
		})
	}
}

// TestCertificatesKeepForeignMetadata holds that labels, annotations and keys of others stay.
func TestCertificatesKeepForeignMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := start(t)
		manage(t, api, longLived())
		api.Change(t, bundlePath, func(object, metadata map[string]any) {
			metadata["labels"] = map[string]any{"team": "platform"}
			object["data"].(map[string]any)["other"] = "kept"
		})
		kubetest.Within(t, 5*time.Second, "the label", func() bool { return api.label(bundlePath, "cache.kyverno.io/enabled") == "true" })
		if api.label(bundlePath, "team") != "platform" || api.stored(bundlePath, "other") != "kept" {
			t.Errorf("it is now %v", api.Object(bundlePath))
		}
	})
}

func TestCertificatesFollowTheirNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := start(t)
		client, policy := api.Client(t), longLived()
		policy.Names = append(policy.Names, "verify.example.com")
		first := NewCertificates(client, policy, others(), (&kubetest.Log{}).Logger())
		if _, err := first.reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := api.verified("verify.example.com"); err != nil {
			t.Fatal(err)
		}
		policy.Names = policy.Names[:2]
		if _, err := NewCertificates(client, policy, others(), (&kubetest.Log{}).Logger()).reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := api.verified("svc.ours.svc", "127.0.0.1"); err != nil || api.verified("verify.example.com") == nil {
			t.Errorf("it has not the names that it should have: %v", err)
		}
	})
}

// TestRotation replaces a CA with a life of seconds, and expects that every state of the objects on the way verifies.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := start(t)
		policy := longLived()
		policy.CADuration, policy.CertificateDuration = 9*time.Second, 6*time.Second
		manage(t, api, policy)
		first := api.stored(authorityPath, "tls.crt")
		kubetest.Within(t, 20*time.Second, "another CA signs", func() bool {
			if err := api.verified("svc.ours.svc"); err != nil {
				t.Fatal(err)
			}
			authority := api.stored(authorityPath, "tls.crt")
			return authority != first && api.stored(authorityPath, "next.crt") == "" && signedBy(api.stored(servingPath, "tls.crt"), authority)
		})
		if !strings.Contains(api.stored(bundlePath, "ca.crt"), first) {
			t.Error("the old CA is not trusted any longer")
		}
	})
}

func signedBy(leaf, authority string) bool {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(authority))
	pair := certificates.ParseCertificates([]byte(leaf))
	if len(pair) == 0 {
		return false
	}
	_, err := pair[0].Verify(x509.VerifyOptions{Roots: roots})
	return err == nil
}

// TestCertificatesDoNotOverwriteNewerVersions changes the objects after a manager has read them.
func TestCertificatesDoNotOverwriteNewerVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := start(t)
		late := NewCertificates(api.Client(t), longLived(), others(), (&kubetest.Log{}).Logger())
		nothing, err := late.gather(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		manage(t, api, longLived())
		everything, err := late.gather(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		api.Change(t, authorityPath, func(_, metadata map[string]any) { metadata["labels"] = map[string]any{"seen": "no"} })
		api.Change(t, bundlePath, func(_, metadata map[string]any) { metadata["annotations"].(map[string]any)["seen"] = "no" })
		api.Change(t, servingPath, func(_, metadata map[string]any) { metadata["labels"] = map[string]any{"seen": "no"} })
		api.Change(t, callerPath, func(_, metadata map[string]any) { metadata["labels"] = map[string]any{"seen": "no"} })
		stored := func() string {
			return strings.Join([]string{api.stored(authorityPath, "tls.crt"), api.stored(bundlePath, "ca.crt"), api.stored(servingPath, "tls.crt"), api.stored(callerPath, "token")}, "")
		}
		before := stored()
		for sentence, from := range map[string]objects{"nothing": nothing, "an older version": everything} {
			from.state.Authority = everything.state.Authority
			for _, step := range []certificates.Step{{Action: certificates.CreateAuthority}, {Action: certificates.CreateSuccessor}, {Action: certificates.Publish}, {Action: certificates.IssueServing}} {
				err := late.act(t.Context(), from, step, time.Now())
				if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
					t.Errorf("having seen %s, %s: %v", sentence, step.Action, err)
				}
			}
			caller := slices.Concat(from.tokens, []*core.Secret{nil})[0]
			if err := late.writeToken(t.Context(), caller, others().CallerSecret, callertoken.State{Token: "another"}); !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
				t.Errorf("having seen %s, a token: %v", sentence, err)
			}
		}
		if before != stored() {
			t.Error("something was overwritten")
		}
	})
}

// TestConcurrentManagersAgree runs two managers that both believe to lead.
func TestConcurrentManagersAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := start(t)
		var both sync.WaitGroup
		for range 2 {
			manager := NewCertificates(api.Client(t), longLived(), others(), (&kubetest.Log{}).Logger())
			both.Go(func() {
				if _, err := manager.reconcile(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		if err := api.verified("svc.ours.svc"); err != nil {
			t.Error(err)
		}
		if n := len(certificates.ParseBundle([]byte(api.stored(bundlePath, "ca.crt")))); n != 1 {
			t.Errorf("the bundle holds %d CAs", n)
		}
	})
}

func TestFailuresAreLoggedAndRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, log := start(t), &kubetest.Log{}
		api.Refuse(403)
		kubetest.Run(t, NewCertificates(api.Client(t), longLived(), others(), log.Logger()).Run)
		kubetest.Within(t, 5*time.Second, "a line", func() bool { return strings.Contains(log.String(), "certificates cannot be kept") })
		api.Refuse(0)
		kubetest.Within(t, 10*time.Second, "certificates", func() bool { return api.verified("svc.ours.svc") == nil })
	})
}

func TestReconcilingEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := start(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := NewCertificates(api.Client(t), longLived(), others(), (&kubetest.Log{}).Logger()).reconcile(ctx)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}
