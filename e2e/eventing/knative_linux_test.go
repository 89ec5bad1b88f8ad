//go:build e2e && e2e_eventing

package eventing

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
)

const (
	systemNamespace = "knative-eventing"
	apiServerName   = "kubernetes.default.svc"

	upTime = 5 * time.Minute // for anything that several processes must do, on a busy machine
)

// knative is the installation of Knative Eventing.
type knative struct {
	module string                   // directory
	pods   map[string]*pod          // by Deployment
	ports  map[string][]servicePort // by Deployment
}

// servicePort is a Service's port that is forwarded to a port of a pod.
type servicePort struct {
	*forwarder
	target int
}

func (s servicePort) endpoint(p *pod) string { return fmt.Sprintf("%s:%d", p.address, s.target) }

// start installs Knative Eventing and runs its Deployments, and makes the Services reachable.
func (c *cluster) start(ctx context.Context) error {
	c.knative = &knative{module: os.Getenv(moduleVariable), pods: map[string]*pod{}, ports: map[string][]servicePort{}}
	if err := c.exposeAPIServer(ctx); err != nil {
		return fmt.Errorf("API server: %w", err)
	}
	if err := c.install(ctx); err != nil {
		return fmt.Errorf("install Knative Eventing: %w", err)
	}
	if err := c.trust(ctx); err != nil {
		return fmt.Errorf("CA for Knative Eventing: %w", err)
	}
	var deployments apps.DeploymentList
	if err := c.get(ctx, &deployments, "deployments", "-n", systemNamespace); err != nil {
		return err
	}
	for _, d := range deployments.Items {
		if _, ours := programs[d.Name]; !ours {
			continue
		}
		p, err := c.runDeployment(ctx, &d, d.Name, nil)
		if err != nil {
			return err
		}
		c.knative.pods[d.Name] = p
	}
	if err := c.exposeServices(ctx); err != nil {
		return fmt.Errorf("Services: %w", err)
	}
	for _, d := range deployments.Items {
		if p := c.knative.pods[d.Name]; p != nil {
			if err := c.becomeAvailable(ctx, &d, p); err != nil {
				return err
			}
		}
	}
	return c.installWebhooks(ctx)
}

// get reads objects with kubectl.
func (c *cluster) get(ctx context.Context, into any, args ...string) error {
	text, err := c.Bed.Kubectl(ctx, "", append([]string{"get", "-o", "json"}, args...)...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), into)
}

func (c *cluster) create(ctx context.Context, object any) error {
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	return c.Bed.Apply(ctx, string(text))
}

// manifests joins the manifests below folders of the module: those that register webhooks, or all others.
func (k *knative) manifests(webhooks bool, folders ...string) (string, error) {
	var all []string
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join(k.module, folder), func(path string, entry fs.DirEntry, err error) error {
			registers := filepath.Base(filepath.Dir(path)) == "webhooks" && entry.Name() != "secret.yaml" // which holds their certificates
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" || registers != webhooks {
				return err
			}
			text, err := os.ReadFile(path)
			all = append(all, string(text))
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return strings.Join(all, "\n---\n"), nil
}

// install applies the manifests as shipped, with authentication as config/events asks for it. The roles that a controller would
// aggregate are filled.
func (c *cluster) install(ctx context.Context) error {
	text, err := c.knative.manifests(false, "config/core", "config/brokers/mt-channel-broker", "config/channels/in-memory-channel", "third_party/eventing-integrations-latest")
	if err != nil {
		return err
	}
	const off, on = `authentication-oidc: "disabled"`, `authentication-oidc: "enabled"`
	if strings.Count(text, off) != 1 {
		return errors.New("its configuration does not say that authentication is disabled")
	}
	if _, err := c.Bed.Kubectl(ctx, strings.Replace(text, off, on, 1), "create", "--validate=false", "-f", "-"); err != nil {
		return err
	}
	if _, err := c.Bed.Kubectl(ctx, "", "wait", "--for=condition=Established", "crd", "--all", "--timeout=2m"); err != nil {
		return err
	}
	return c.aggregate(ctx)
}

// aggregate gives cluster roles the rules that a controller would give them; those of Kubernetes itself are left alone.
func (c *cluster) aggregate(ctx context.Context) error {
	var roles rbac.ClusterRoleList
	if err := c.get(ctx, &roles, "clusterroles"); err != nil {
		return err
	}
	for _, role := range roles.Items {
		if role.AggregationRule == nil || role.Labels["kubernetes.io/bootstrapping"] != "" {
			continue
		}
		var rules []rbac.PolicyRule
		for _, other := range roles.Items {
			if other.Name != role.Name && slices.ContainsFunc(role.AggregationRule.ClusterRoleSelectors, func(s metav1.LabelSelector) bool { return selected(s, other.Labels) }) {
				rules = append(rules, other.Rules...)
			}
		}
		patch, err := json.Marshal(map[string]any{"rules": rules})
		if err != nil {
			return err
		}
		if _, err := c.Bed.Kubectl(ctx, "", "patch", "clusterrole", role.Name, "--type=merge", "-p", string(patch)); err != nil {
			return err
		}
	}
	return nil
}

func selected(by metav1.LabelSelector, set map[string]string) bool {
	selector, err := metav1.LabelSelectorAsSelector(&by)
	return err == nil && selector.Matches(labels.Set(set))
}

// trust does what config/events says about the CA.
func (c *cluster) trust(ctx context.Context) error {
	const name = "kyverno-notation-venafi-ca"
	ca, err := c.Bed.Kubectl(ctx, "", "-n", deployment.Namespace, "get", "configmap", name, "-o", `jsonpath={.data.ca\.crt}`)
	if err != nil {
		return err
	}
	file := filepath.Join(c.Dir, "ca.crt")
	if err := os.WriteFile(file, []byte(ca), 0o600); err != nil {
		return err
	}
	if _, err := c.Bed.Kubectl(ctx, "", "-n", systemNamespace, "create", "configmap", name, "--from-file=ca.crt="+file); err != nil {
		return err
	}
	_, err = c.Bed.Kubectl(ctx, "", "-n", systemNamespace, "label", "configmap", name, "networking.knative.dev/trust-bundle=true")
	return err
}

// exposeAPIServer makes the API server reachable by the Service of its own.
func (c *cluster) exposeAPIServer(ctx context.Context) error {
	var service core.Service
	if err := c.get(ctx, &service, "service", "kubernetes", "-n", "default"); err != nil {
		return err
	}
	if _, err := c.forward(service.Spec.ClusterIP, 443, strings.TrimPrefix(c.Bed.URL(), "https://")); err != nil {
		return err
	}
	return c.name(service.Spec.ClusterIP, apiServerName, apiServerName+".cluster.local")
}

// exposeServices forwards the Services of Knative to its pods, and the Service svc to the first replica.
func (c *cluster) exposeServices(ctx context.Context) error {
	var services core.ServiceList
	if err := c.get(ctx, &services, "services", "-n", systemNamespace); err != nil {
		return err
	}
	var deployments apps.DeploymentList
	if err := c.get(ctx, &deployments, "deployments", "-n", systemNamespace); err != nil {
		return err
	}
	for _, service := range services.Items {
		if service.Spec.ClusterIP == core.ClusterIPNone {
			continue
		}
		names := namesOf(&service)
		if service.Name == "imc-dispatcher" { // by which channels are reached, too: their Services are of type ExternalName
			names = append(names, "trust-kne-trigger-kn-channel."+deployment.Namespace+".svc.cluster.local")
		}
		if err := c.name(service.Spec.ClusterIP, names...); err != nil {
			return err
		}
		for _, d := range deployments.Items {
			p := c.knative.pods[d.Name]
			if p == nil || len(service.Spec.Selector) == 0 || !labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(d.Spec.Template.Labels)) {
				continue
			}
			for _, port := range service.Spec.Ports {
				s := servicePort{target: portOf(&d, port.TargetPort)}
				var err error
				if s.forwarder, err = c.forward(service.Spec.ClusterIP, int(port.Port), s.endpoint(p)); err != nil {
					return err
				}
				c.knative.ports[d.Name] = append(c.knative.ports[d.Name], s)
			}
		}
	}
	var own core.Service
	if err := c.get(ctx, &own, "service", "svc", "-n", deployment.Namespace); err != nil {
		return err
	}
	if err := c.name(own.Spec.ClusterIP, namesOf(&own)...); err != nil {
		return err
	}
	var err error
	c.service, err = c.forward(own.Spec.ClusterIP, 443, c.Replicas[0].Secure)
	return err
}

func namesOf(service *core.Service) []string {
	name := service.Name + "." + service.Namespace + ".svc"
	return []string{name, name + ".cluster.local"}
}

// portOf is the number of a port of a pod.
func portOf(d *apps.Deployment, port intstr.IntOrString) int {
	for _, named := range d.Spec.Template.Spec.Containers[0].Ports {
		if port.Type == intstr.String && named.Name == port.StrVal {
			return int(named.ContainerPort)
		}
	}
	return port.IntValue()
}

// runDeployment runs the program of a Deployment's only container as a pod, as the account of the Deployment.
func (c *cluster) runDeployment(ctx context.Context, d *apps.Deployment, program string, more []string) (*pod, error) {
	kubeconfig, err := c.kubeconfig(ctx, d.Namespace, d.Spec.Template.Spec.ServiceAccountName)
	if err != nil {
		return nil, err
	}
	env := append([]string{"KUBECONFIG=" + kubeconfig, "PATH=" + os.Getenv("PATH"), "HOME=" + c.Dir}, more...)
	for _, variable := range d.Spec.Template.Spec.Containers[0].Env {
		value, err := c.valueOf(ctx, d, variable)
		if err != nil {
			return nil, fmt.Errorf("variable %s of %s: %w", variable.Name, d.Name, err)
		}
		env = append(env, variable.Name+"="+value)
	}
	return c.run(d.Name, filepath.Join(os.Getenv(programsVariable), program), env)
}

// restart replaces the pod of one of Knative's Deployments.
func (c *cluster) restart(ctx context.Context, name string) error {
	var d apps.Deployment
	if err := c.get(ctx, &d, "deployment", name, "-n", systemNamespace); err != nil {
		return err
	}
	c.knative.pods[name].end()
	p, err := c.runDeployment(ctx, &d, name, nil)
	if err != nil {
		return err
	}
	c.knative.pods[name] = p
	for _, s := range c.knative.ports[name] {
		if err := errors.Join(s.close(), s.open(s.endpoint(p))); err != nil {
			return err
		}
	}
	return c.becomeAvailable(ctx, &d, p)
}

// kubeconfig is that of an account, for a pod.
func (c *cluster) kubeconfig(ctx context.Context, namespace, account string) (string, error) {
	path, err := c.Bed.WriteServiceAccountKubeconfig(ctx, namespace, account)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return path, os.WriteFile(path, []byte(strings.ReplaceAll(string(text), c.Bed.URL(), "https://"+apiServerName)), 0o600)
}

// valueOf is what a kubelet would give a variable.
func (c *cluster) valueOf(ctx context.Context, d *apps.Deployment, variable core.EnvVar) (string, error) {
	from := variable.ValueFrom
	switch {
	case from == nil:
		return variable.Value, nil
	case from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.namespace":
		return d.Namespace, nil
	case from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.name":
		return d.Name + "-0", nil
	case from.ConfigMapKeyRef != nil:
		var configMap core.ConfigMap
		err := c.get(ctx, &configMap, "configmap", from.ConfigMapKeyRef.Name, "-n", d.Namespace)
		return configMap.Data[from.ConfigMapKeyRef.Key], err
	}
	return "", errors.New("nothing stands in for its source")
}

// becomeAvailable waits until the readiness probe of a Deployment's pod succeeds, and says so to the API server: in the status of the
// Deployment and, if a Service has its name, in an EndpointSlice.
func (c *cluster) becomeAvailable(ctx context.Context, d *apps.Deployment, p *pod) error {
	if err := deployment.Eventually(ctx, upTime, func() error { return ready(ctx, d, p) }); err != nil {
		return fmt.Errorf("%s: %w: %s", d.Name, err, p.tail())
	}
	status := fmt.Sprintf(`{"status":{"observedGeneration":%d,"replicas":1,"updatedReplicas":1,"readyReplicas":1,"availableReplicas":1,`+
		`"conditions":[{"type":"Available","status":"True","reason":"MinimumReplicasAvailable","message":"the pod is ready"}]}}`, d.Generation)
	if _, err := c.Bed.Kubectl(ctx, "", "patch", "deployment", d.Name, "-n", d.Namespace, "--subresource=status", "--type=merge", "-p", status); err != nil {
		return err
	}
	service := map[string]string{"mt-broker-ingress": "broker-ingress", "mt-broker-filter": "broker-filter", "imc-dispatcher": "imc-dispatcher"}[d.Name]
	if service == "" {
		return nil
	}
	return c.create(ctx, map[string]any{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
		"metadata":  map[string]any{"name": service, "namespace": d.Namespace, "labels": map[string]string{"kubernetes.io/service-name": service}},
		"ports":     []any{map[string]any{"name": "http", "port": 8080, "protocol": "TCP"}},
		"endpoints": []any{map[string]any{"addresses": []string{p.address}, "conditions": map[string]bool{"ready": true}}},
	})
}

// ready sends the request of the readiness probe.
func ready(ctx context.Context, d *apps.Deployment, p *pod) error {
	if err := p.alive(); err != nil {
		return err
	}
	probe := d.Spec.Template.Spec.Containers[0].ReadinessProbe.HTTPGet
	url := fmt.Sprintf("%s://%s:%d/%s", strings.ToLower(string(probe.Scheme)), p.address, portOf(d, probe.Port), strings.TrimPrefix(probe.Path, "/"))
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "kube-probe/1.36") // by which Knative's webhooks know a kubelet
	for _, header := range probe.HTTPHeaders {
		request.Header.Set(header.Name, header.Value)
	}
	// As a kubelet does, and to a process of this test.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("readiness probe: %s", response.Status)
	}
	return nil
}

// installWebhooks registers the webhooks, and waits until their processes have filled in what they are to be asked about.
func (c *cluster) installWebhooks(ctx context.Context) error {
	text, err := c.knative.manifests(true, "config/core", "config/channels/in-memory-channel")
	if err != nil {
		return err
	}
	if _, err := c.Bed.Kubectl(ctx, text, "create", "--validate=false", "-f", "-"); err != nil {
		return err
	}
	return deployment.Eventually(ctx, upTime, func() error {
		for _, kind := range []string{"mutating", "validating"} {
			bundles, err := c.Bed.Kubectl(ctx, "", "get", kind+"webhookconfigurations", "-l", "app.kubernetes.io/name=knative-eventing", "-o",
				`jsonpath={range .items[*]}{.metadata.name}={.webhooks[0].clientConfig.caBundle}{"\n"}{end}`)
			if err != nil {
				return err
			}
			for line := range strings.Lines(bundles) {
				if name, bundle, _ := strings.Cut(strings.TrimSpace(line), "="); bundle == "" {
					return fmt.Errorf("webhook %s has no CA yet: %w", name, errors.Join(c.knative.pods["eventing-webhook"].alive(), c.knative.pods["imc-controller"].alive()))
				}
			}
		}
		return nil
	})
}
