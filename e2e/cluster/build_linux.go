package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
)

// buildTime is for all programs, cold, on two slow cores.
const buildTime = 2 * time.Hour

const (
	servingModule    = "knative.dev/serving"
	networkingModule = "knative.dev/networking"
	cachingModule    = "knative.dev/caching"
	traefikModule    = "github.com/traefik/traefik/v3"
	legoModule       = "github.com/go-acme/lego/v4"
)

// knativeParts are main packages of Knative Serving, each an image.
var knativeParts = []string{"activator", "autoscaler", "controller", "queue", "webhook"}

// built is what Up needs of the machine, all of it in the cache.
type built struct {
	Programs programs
	Images   map[string]string // the static program of each image, by its name
	Modules  map[string]string // folders with manifests, by module path
	Kyverno  map[string]string // its static programs and its manifest
}

func (l layout) builtFile() string { return l.path("built.json") }

func (c *Cluster) writeBuilt() error { return writeConfig(c.builtFile(), c.built) }

// readBuilt reads what the Up that started the cluster wrote.
func (c *Cluster) readBuilt() error {
	data, err := os.ReadFile(c.builtFile())
	if err == nil {
		err = json.Unmarshal(data, &c.built)
	}
	if err != nil {
		return fmt.Errorf("programs of the cluster: %w", err)
	}
	return nil
}

// build returns all programs, building those that the cache does not hold.
func build(ctx context.Context, opts Options) (built, error) {
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	bedOptions := bed.Options{Log: opts.log(), CacheDir: opts.CacheDir, ToolsDir: opts.ToolsDir}
	tools, err := bed.Build(ctx, bedOptions)
	if err != nil {
		return built{}, err
	}
	b, err := bed.NewBuilder(ctx, bedOptions)
	if err != nil {
		return built{}, err
	}
	unlock, err := b.Lock(ctx)
	if err != nil {
		return built{}, err
	}
	defer unlock()
	out := built{Images: map[string]string{}, Modules: map[string]string{}, Kyverno: map[string]string{}}
	out.Programs = programs{Etcd: tools.Etcd, APIServer: tools.APIServer, Kubectl: tools.Kubectl}
	for _, step := range []func(context.Context, bed.Builder, *built) error{buildNode, buildImages, buildTraefik, buildKyverno, findModules} {
		if err := step(ctx, b, &out); err != nil {
			return built{}, err
		}
	}
	return out, nil
}

func buildNode(ctx context.Context, b bed.Builder, out *built) (err error) {
	for name, path := range map[string]*string{
		"kubelet": &out.Programs.Kubelet, "kube-proxy": &out.Programs.Proxy,
		"kube-scheduler": &out.Programs.Scheduler, "kube-controller-manager": &out.Programs.ControllerManager,
	} {
		if *path, err = b.Kubernetes(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func buildImages(ctx context.Context, b bed.Builder, out *built) (err error) {
	if out.Images["coredns"], err = b.Static(ctx, "coredns", "coredns", "."); err != nil {
		return err
	}
	if out.Images["pause"], err = b.Static(ctx, "pause", "pause", "."); err != nil {
		return err
	}
	for _, name := range knativeParts {
		if out.Images[name], err = b.Static(ctx, "knative", name, servingModule+"/cmd/"+name); err != nil {
			return err
		}
	}
	return nil
}

// buildTraefik builds it without lego's list of DNS providers: beside the module, lego is copied with what
// tools/traefik/lego puts in its place. That folder's go.mod counts, so that no provider's SDK is looked for.
func buildTraefik(ctx context.Context, b bed.Builder, out *built) (err error) {
	out.Images["traefik"], err = b.File("traefik", "traefik-static", func(dir, path string) error {
		source := path + "-source"
		defer os.RemoveAll(source)
		lego, err := b.ModuleDir(ctx, "traefik", legoModule)
		if err != nil {
			return err
		}
		for _, folder := range []string{"acme", "certcrypto", "certificate", "challenge", "internal", "lego", "log", "platform", "registration"} {
			if err := os.CopyFS(filepath.Join(source, "lego", folder), os.DirFS(filepath.Join(lego, folder))); err != nil {
				return err
			}
		}
		if err := os.CopyFS(source, os.DirFS(dir)); err != nil {
			return err
		}
		return b.StaticIn(ctx, source, path, "traefik", traefikModule+"/cmd/traefik")
	})
	return err
}

func buildKyverno(ctx context.Context, b bed.Builder, out *built) (err error) {
	for name, pkg := range kyvernoImages {
		if out.Kyverno[name], err = b.Static(ctx, "kyverno", name, "github.com/kyverno/kyverno/"+pkg); err != nil {
			return err
		}
	}
	out.Kyverno["install.yaml"], err = b.KyvernoManifest(ctx)
	return err
}

func findModules(ctx context.Context, b bed.Builder, out *built) error {
	for _, module := range []string{servingModule, networkingModule, cachingModule} {
		dir, err := b.ModuleDir(ctx, "knative", module)
		if err != nil {
			return err
		}
		out.Modules[module] = dir
	}
	return nil
}

// importImages hands every image to containerd.
func (c *Cluster) importImages(ctx context.Context) error {
	err := poll(ctx, readyTime, "containerd", func(ctx context.Context) error {
		return c.enter(ctx, "ctr", "--address="+containerdSocket, "version").Run()
	})
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(c.built.Images) {
		i := programImage(name, c.built.Images[name])
		if err := c.importImage(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// manifests reads YAML files of a module, local images in place of ko's references.
func (c *Cluster) manifests(module string, patterns ...string) (string, error) {
	all := strings.Builder{}
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(c.built.Modules[module], pattern))
		if err != nil || len(files) == 0 {
			return "", fmt.Errorf("manifests of %s: nothing is called %s (%v)", module, pattern, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "-hpa.yaml") { // there are no metrics to scale by
				continue
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return "", fmt.Errorf("manifests of %s: %w", module, err)
			}
			fmt.Fprintf(&all, "---\n%s\n", data)
		}
	}
	text := all.String()
	for _, name := range knativeParts {
		text = strings.ReplaceAll(text, "ko://"+servingModule+"/cmd/"+name+"\n", imageName(name)+"\n")
	}
	return text, nil
}
