// Package bed runs a real Kubernetes control plane with Kyverno on loopback, without containers, for tests of
// admission:
//
//	b, err := bed.Start(ctx, bed.Options{Kyverno: true, Log: os.Stderr})
//	...
//	defer b.Close()
//	err = b.Apply(ctx, policy)
//	err = b.WaitPolicy(ctx, "clusterpolicy/verify-images")
//	out, err := b.Kubectl(ctx, "", "run", "web", "--image=...", "--dry-run=server", "-o", "yaml")
//
// The programs are built once from the modules below e2e/tools, which pin their versions, and kept in DefaultCacheDir.
// Each bed has its own ports, data directory and credentials, so several can run at once. On Linux its processes end
// with the process that started it, however that ends.
//
// # What is missing
//
// There is no kube-controller-manager, scheduler or kubelet. A Deployment gets no ReplicaSet and no pods; a deleted
// namespace stays Terminating; a namespace gets no ServiceAccount "default" and no ConfigMap kube-root-ca.crt; a
// Service gets no endpoints, a service account no token Secret; aggregated cluster roles ("view", "edit", "admin",
// Kyverno's own) stay empty. So tests speak of pods with --dry-run=server or of pods that never run, create the service
// accounts that they need, and bind the cluster roles that would be aggregated.
//
// Of Kyverno the admission controller runs, as the service account of its manifest, and with Options.Reports the reports
// controller: background scans and PolicyReports. There is no background controller and no cleanup. Kyverno lets a report
// be owned by what it is about, and no garbage collector deletes it with that.
//
// # Flags of the API server that matter
//
//   - --endpoint-reconciler-type=none and --advertise-address: loopback is no valid endpoint of Service "kubernetes",
//     and a machine without a route to elsewhere has no other address.
//   - --tls-cert-file, not the certificate that the server would make: clients must trust it after a restart.
//   - --service-account-issuer, -key-file, -signing-key-file: without them TokenRequest does not exist.
//   - --api-audiences is the issuer alone: a token for Kyverno's service calls is then refused by the API server
//     itself, and a TokenReview that names KyvernoAudience still accepts it.
//   - --disable-admission-plugins=ServiceAccount: no controller makes the service account that a pod would need.
//
// # Flags and variables of Kyverno that matter
//
//   - --httpBlocklist: by default loopback is refused, to apiCall services and to CEL's http.Get and http.Post alike.
//     The list given here replaces the default. Nothing else has to allow http.Post in a cluster-wide policy; in a
//     namespaced one it needs --allowHTTPInNamespacedPolicies=true (Options.KyvernoArgs).
//   - KYVERNO_SCOPED_TOKEN_PATH names the token sent with apiCall services, in place of the file that is mounted at
//     /var/run/secrets/kyverno/apicall/token in a pod. It is read on every call. CEL's http functions send no token.
//   - --serverIP with a port: webhooks are then registered by URL instead of by Service, and the certificate names it.
//   - --controllerRuntimeMetricsAddress=0: otherwise it takes port 8080 of every address.
//   - --metricsPort: it listens there in spite of --disableMetrics, so that two beds need two ports.
//   - --admissionReports=false without Options.Reports: no reports controller would ever collect them.
package bed
