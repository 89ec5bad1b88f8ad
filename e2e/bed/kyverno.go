package bed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// KyvernoAudience is the audience of the token that Kyverno sends with the service calls of its policies.
	KyvernoAudience = "kyverno-svc.kyverno.io"
	// KyvernoNamespace and KyvernoServiceAccount name who Kyverno is, to the API server and in that token.
	KyvernoNamespace      = "kyverno"
	KyvernoServiceAccount = "kyverno-admission-controller"

	kyvernoTime  = 3 * time.Minute  // until it serves and its webhooks are registered
	kyvernoGrace = 15 * time.Second // to give its leases back when stopped
	policyTime   = time.Minute      // until a policy is ready
)

// kyvernoRights stands in for kube-controller-manager, which would fill Kyverno's aggregated cluster roles. A CEL policy
// gets ready only if the reports controller could read what it matches, so its account needs rights without running.
const kyvernoRights = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "bed:kyverno:core"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "kyverno:admission-controller:core"}
subjects: [{kind: ServiceAccount, namespace: kyverno, name: kyverno-admission-controller}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "bed:kyverno:view"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:aggregate-to-view"}
subjects:
- {kind: ServiceAccount, namespace: kyverno, name: kyverno-admission-controller}
- {kind: ServiceAccount, namespace: kyverno, name: kyverno-background-controller}
- {kind: ServiceAccount, namespace: kyverno, name: kyverno-reports-controller}
`

// installKyverno creates what Kyverno's manifest holds. Its Deployments stay without pods; StartKyverno runs the one
// that matters.
func (b *Bed) installKyverno(ctx context.Context) error {
	// Not apply: the definitions are too large for its annotation, and slower to apply on the server's side.
	if _, err := b.Kubectl(ctx, "", "create", "--validate=false", "-f", b.tools.KyvernoManifest); err != nil {
		return fmt.Errorf("install Kyverno: %w", err)
	}
	if err := b.Apply(ctx, kyvernoRights); err != nil {
		return fmt.Errorf("rights of Kyverno: %w", err)
	}
	if _, err := b.Kubectl(ctx, "", "wait", "--for=condition=Established", "crd", "--all", "--timeout=1m"); err != nil {
		return fmt.Errorf("definitions of Kyverno: %w", err)
	}
	return nil
}

// KyvernoTokenFile holds the token that Kyverno sends with the service calls of its policies. Kyverno reads it on every
// call; a test may replace or remove it. StartKyverno writes it anew.
func (b *Bed) KyvernoTokenFile() string { return filepath.Join(b.dir, "kyverno-apicall-token") }

// StartKyverno starts the admission controller as its own service account and waits until it serves and the API server
// knows its webhooks. From then on it is started again when it ends, as a kubelet would do: it ends by itself when the
// API server is away for longer than its leader election allows.
func (b *Bed) StartKyverno(ctx context.Context) error {
	kubeconfig, err := b.WriteServiceAccountKubeconfig(ctx, KyvernoNamespace, KyvernoServiceAccount)
	if err != nil {
		return fmt.Errorf("identity of Kyverno: %w", err)
	}
	token, err := b.Token(ctx, KyvernoNamespace, KyvernoServiceAccount, KyvernoAudience)
	if err != nil {
		return fmt.Errorf("token for Kyverno's service calls: %w", err)
	}
	if err := os.WriteFile(b.KyvernoTokenFile(), []byte(token), 0o600); err != nil {
		return fmt.Errorf("token for Kyverno's service calls: %w", err)
	}
	env := b.kyvernoEnv(KyvernoServiceAccount, "kyverno:admission-controller", b.KyvernoTokenFile())
	c, err := b.run(Kyverno, env, b.tools.Kyverno, append(b.kyvernoArgs(kubeconfig), b.opts.KyvernoArgs...)...)
	if err != nil {
		return err
	}
	err = poll(ctx, kyvernoTime, Kyverno, func(ctx context.Context) error {
		return errors.Join(c.alive(), b.kyvernoReady(ctx))
	})
	if err == nil {
		go b.keep(c)
	}
	return err
}

// WaitKyverno waits until Kyverno serves, after what may have ended it.
func (b *Bed) WaitKyverno(ctx context.Context) error {
	return poll(ctx, kyvernoTime, Kyverno, b.kyvernoReady)
}

// StopKyverno lets the admission controller end in order. Its webhooks stay registered, so what its policies match is
// refused until it is back.
func (b *Bed) StopKyverno() error { return b.stop(Kyverno, kyvernoGrace) }

func (b *Bed) kyvernoArgs(kubeconfig string) []string {
	const secret = "kyverno-svc.kyverno.svc.kyverno-tls-"
	port := strconv.Itoa(b.kyvernoPort)
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--serverIP=" + loopback + ":" + port, "--webhookServerHost=" + loopback, "--webhookServerPort=" + port,
		"--caSecretName=" + secret + "ca", "--tlsSecretName=" + secret + "pair",
		"--backgroundServiceAccountName=system:serviceaccount:kyverno:kyverno-background-controller",
		"--reportsServiceAccountName=system:serviceaccount:kyverno:kyverno-reports-controller",
		"--httpBlocklist=169.254.0.0/16",
		"--disableMetrics=true", "--metricsPort=" + strconv.Itoa(b.metricsPort), "--controllerRuntimeMetricsAddress=0",
		"--admissionReports=" + strconv.FormatBool(b.opts.Reports),
		"--disableLogColor=true", "--v=2",
	}
}

// kyvernoEnv is the environment of a controller's Deployment, which has the name of its service account.
func (b *Bed) kyvernoEnv(account, role, tokenFile string) []string {
	return append(append(os.Environ(),
		"KYVERNO_NAMESPACE="+KyvernoNamespace,
		"KYVERNO_SERVICEACCOUNT_NAME="+account,
		"KYVERNO_ROLE_NAME="+role,
		"KYVERNO_DEPLOYMENT="+account,
		"KYVERNO_POD_NAME="+account+"-bed",
		"KYVERNO_SVC=kyverno-svc",
		"KYVERNO_SCOPED_TOKEN_PATH="+tokenFile,
		"INIT_CONFIG=kyverno",
		"METRICS_CONFIG=kyverno-metrics",
		"TUF_ROOT="+filepath.Join(b.dir, "sigstore"),
	), b.opts.KyvernoEnv...)
}

// kyvernoReady returns nil once Kyverno serves and has registered every webhook it has without a policy.
func (b *Bed) kyvernoReady(ctx context.Context) error {
	for kind, names := range map[string][]string{
		"mutating":   {"kyverno-policy-mutating-webhook-cfg", "kyverno-resource-mutating-webhook-cfg"},
		"validating": {"kyverno-policy-validating-webhook-cfg", "kyverno-resource-validating-webhook-cfg"},
	} {
		path := "/apis/admissionregistration.k8s.io/v1/" + kind + "webhookconfigurations/"
		for _, name := range names {
			if _, err := get(ctx, b.client, b.URL()+path+name, b.token); err != nil {
				return err
			}
		}
	}
	// Only "does it answer" is asked here, and only of loopback. The API server verifies the certificate.
	insecure := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	_, err := get(ctx, insecure, loopbackURL("https", b.kyvernoPort)+"/health/readiness", "")
	return err
}

// WaitPolicy waits until Kyverno enforces a policy, given as "clusterpolicy/name", "validatingpolicy/name", ...: until
// the policy says that it is ready, which Kyverno writes after it has registered the webhook for it.
func (b *Bed) WaitPolicy(ctx context.Context, policy string) error {
	condition := "condition=Ready"
	if kind, _, _ := strings.Cut(policy, "/"); strings.HasSuffix(kind, "ingpolicy") {
		condition = "jsonpath={.status.conditionStatus.ready}=true"
	}
	_, err := b.Kubectl(ctx, "", "wait", "--for="+condition, policy, "--timeout="+policyTime.String())
	return err
}
