//go:build e2e && e2e_func && linux

package function

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
)

const (
	startTime = 3 * time.Minute // for what was deployed to be ready
	endTime   = 30 * time.Second
)

// knative defines the resources of Knative Serving.
func knative(t *testing.T, b *bed.Bed) {
	t.Helper()
	builder, err := bed.NewBuilder(t.Context(), bed.Options{Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := builder.ModuleDir(t.Context(), "knative", "knative.dev/serving")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"service", "route"} {
		if _, err := b.Kubectl(t.Context(), "", "create", "-f", filepath.Join(dir, "config/core/300-resources", kind+".yaml")); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Kubectl(t.Context(), "", "wait", "--for=condition=Established", "--timeout=1m", "crd/"+kind+"s.serving.knative.dev"); err != nil {
			t.Fatal(err)
		}
	}
}

// pod is a process that a container was started as.
type pod struct{ plain, secure string } // its addresses

// start runs the container of a pod from its image, as the kubelet would: with the image's command and environment where the container
// has none, and as the service account. Addresses are of its own, since it shares a machine. It ends with the test.
func (u *user) start(t *testing.T, spec corev1.PodSpec) pod {
	t.Helper()
	container := spec.Containers[0]
	image, program := pull(t, container.Image)
	kubeconfig, err := u.bed.WriteServiceAccountKubeconfig(t.Context(), namespace, spec.ServiceAccountName)
	if err != nil {
		t.Fatal(err)
	}
	p := pod{plain: freeAddress(t), secure: freeAddress(t)}
	command := slices.Concat(container.Command, container.Args)
	if len(container.Command) == 0 {
		command = slices.Concat(image.Entrypoint, image.Cmd)
	}
	if len(command) == 0 || command[0] != "/"+programFile {
		t.Fatalf("the container runs %q", command)
	}
	cmd := exec.Command(program, command[1:]...)
	cmd.Dir = t.TempDir()
	cmd.Env = slices.Clone(image.Env)
	for _, v := range container.Env {
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
	}
	cmd.Env = append(cmd.Env, "KUBECONFIG="+kubeconfig, "POD_NAMESPACE="+namespace, "LISTEN_ADDRESS="+p.plain, "PLAIN_ADDRESS="+p.plain, "TLS_ADDRESS="+p.secure, "DRAIN_DELAY=0s")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log := bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(endTime, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%q ended with %v", command, err)
		}
		if t.Failed() {
			t.Logf("%q:\n%s", command, &log)
		}
	})
	p.wait(t, container.ReadinessProbe.HTTPGet.Path)
	return p
}

// wait probes readiness.
func (p pod) wait(t *testing.T, path string) {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	for deadline := time.Now().Add(startTime); ; time.Sleep(100 * time.Millisecond) {
		response, err := client.Get("http://" + p.plain + path)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
			err = fmt.Errorf("status %d", response.StatusCode)
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := deployment.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// service is what matters of a Service of Knative.
type service struct {
	Spec struct {
		Template struct {
			Spec corev1.PodSpec `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

// reconcile is Knative's part: it runs the container of the Service as soon as there is one, and then says that Service and Route are
// ready.
func (u *user) reconcile(t *testing.T) pod {
	t.Helper()
	for deadline := time.Now().Add(startTime); ; time.Sleep(200 * time.Millisecond) {
		if _, err := u.bed.Kubectl(t.Context(), "", "-n", namespace, "get", "services.serving.knative.dev", function); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	var s service
	u.get(t, "services.serving.knative.dev", function, &s)
	p := u.start(t, s.Spec.Template.Spec)
	route := `{"apiVersion":"serving.knative.dev/v1","kind":"Route","metadata":{"name":"` + function + `","namespace":"` + namespace + `"}}`
	if err := u.bed.Apply(t.Context(), route); err != nil {
		t.Fatal(err)
	}
	status := `{"status":{"url":"http://` + p.plain + `","observedGeneration":1,"conditions":[{"type":"Ready","status":"True"},{"type":"RoutesReady","status":"True"},{"type":"ConfigurationsReady","status":"True"}]}}`
	for _, of := range []string{"routes", "services"} {
		if _, err := u.bed.Kubectl(t.Context(), "", "-n", namespace, "patch", of+".serving.knative.dev", function, "--type=merge", "--subresource=status", "-p", status); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// serves asks the function over TLS, with the certificate that certmanager made, and as nobody.
func (u *user) serves(t *testing.T, p pod) {
	t.Helper()
	var published corev1.ConfigMap
	u.get(t, "configmap", "kyverno-notation-venafi-ca", &published)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(published.Data["ca.crt"])) {
		t.Fatalf("no CA in %v", published.Data)
	}
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "svc." + namespace + ".svc"}}}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+p.secure+"/verify", strings.NewReader(`{"images":{}}`))
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("a request without a token is answered with %d", response.StatusCode)
	}
}
