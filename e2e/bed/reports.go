package bed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// KyvernoReportsServiceAccount names the reports controller, in KyvernoNamespace.
const KyvernoReportsServiceAccount = "kyverno-reports-controller"

// reportsRights stands in for kube-controller-manager, as kyvernoRights does. What the reports controller reads of the
// cluster is in those.
const reportsRights = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "bed:kyverno:reports:core"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "kyverno:reports-controller:core"}
subjects: [{kind: ServiceAccount, namespace: kyverno, name: kyverno-reports-controller}]
`

// startReports starts the reports controller as its own service account, and waits until it leads, which is when it scans.
// Like the admission controller it is started again when it ends.
func (b *Bed) startReports(ctx context.Context) error {
	if err := b.Apply(ctx, reportsRights); err != nil {
		return fmt.Errorf("rights of the reports controller: %w", err)
	}
	kubeconfig, err := b.WriteServiceAccountKubeconfig(ctx, KyvernoNamespace, KyvernoReportsServiceAccount)
	if err != nil {
		return fmt.Errorf("identity of the reports controller: %w", err)
	}
	token, err := b.Token(ctx, KyvernoNamespace, KyvernoReportsServiceAccount, KyvernoAudience)
	if err != nil {
		return fmt.Errorf("token for the reports controller's service calls: %w", err)
	}
	tokenFile := filepath.Join(b.dir, "kyverno-reports-apicall-token")
	if err := os.WriteFile(tokenFile, []byte(token), 0o600); err != nil {
		return fmt.Errorf("token for the reports controller's service calls: %w", err)
	}
	args := append([]string{
		"--kubeconfig=" + kubeconfig,
		"--httpBlocklist=169.254.0.0/16",
		"--disableMetrics=true", "--metricsHost=" + loopback, "--metricsPort=" + strconv.Itoa(b.reportsMetricsPort),
		"--omitEvents=PolicyApplied,PolicySkipped",
		"--disableLogColor=true", "--v=2",
	}, b.opts.ReportsArgs...)
	c, err := b.run(KyvernoReports, b.kyvernoEnv(KyvernoReportsServiceAccount, "kyverno:reports-controller", tokenFile), b.tools.KyvernoReports, args...)
	if err != nil {
		return err
	}
	err = poll(ctx, kyvernoTime, KyvernoReports, func(ctx context.Context) error {
		return errors.Join(c.alive(), b.reportsLead(ctx))
	})
	if err == nil {
		go b.keep(c)
	}
	return err
}

// reportsLead returns nil once the reports controller holds its lease.
func (b *Bed) reportsLead(ctx context.Context) error {
	path := "/apis/coordination.k8s.io/v1/namespaces/" + KyvernoNamespace + "/leases/" + KyvernoReportsServiceAccount
	body, err := get(ctx, b.client, b.URL()+path, b.token)
	if err != nil {
		return err
	}
	lease := struct {
		Spec struct{ HolderIdentity string }
	}{}
	if err := json.Unmarshal(body, &lease); err != nil || lease.Spec.HolderIdentity == "" {
		return fmt.Errorf("nobody holds the lease: %w", err)
	}
	return nil
}
