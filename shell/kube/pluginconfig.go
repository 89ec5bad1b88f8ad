package kube

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	core "k8s.io/api/core/v1"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// PluginConfigOptions name where plugin configuration is. An empty name is not watched.
type PluginConfigOptions struct {
	Namespace string
	ConfigMap string
	Secret    string // its values take precedence over those of the ConfigMap
}

// PluginConfig watches the configuration of plugins in a ConfigMap and a Secret, neither of which need exist.
type PluginConfig struct {
	client  *kubeclient.Client
	log     *slog.Logger
	health  *kubeclient.Health
	sources []*kubeclient.Object[map[string]string] // later ones take precedence
	mu      sync.Mutex                              // held while merging
	merged  atomic.Pointer[map[string]string]
}

// NewPluginConfig prepares; Watch does the work.
func NewPluginConfig(client *kubeclient.Client, options PluginConfigOptions, log *slog.Logger) *PluginConfig {
	p := &PluginConfig{client: client, log: log}
	p.merged.Store(&map[string]string{})
	if options.ConfigMap != "" {
		p.sources = append(p.sources, kubeclient.NewConfigMap(options.Namespace, options.ConfigMap, configMapData))
	}
	if options.Secret != "" {
		p.sources = append(p.sources, kubeclient.NewSecret(options.Namespace, options.Secret, secretTexts))
	}
	var targets []kubeclient.Target
	for _, source := range p.sources {
		source.OnChange(p.merge)
		targets = append(targets, source.Target)
	}
	p.health = kubeclient.NewHealth(log, "plugin configuration", targets...)
	return p
}

// Config gives the current configuration, a map that is never changed afterwards.
func (p *PluginConfig) Config() map[string]string { return *p.merged.Load() }

// Watch follows the sources until ctx ends. Run it once.
func (p *PluginConfig) Watch(ctx context.Context) {
	var watches sync.WaitGroup
	for _, source := range p.sources {
		watches.Go(func() { source.Watch(ctx, p.client, p.health) })
	}
	watches.Wait()
}

// Synced reports whether the API server answered for every source, even if only that it does not exist.
func (p *PluginConfig) Synced() bool {
	for _, source := range p.sources {
		if !source.Answered(p.health) {
			return false
		}
	}
	return true
}

// Connected reports whether changes of all sources are being seen.
func (p *PluginConfig) Connected() bool { return p.health.Connected() }

func (p *PluginConfig) merge() {
	p.mu.Lock()
	defer p.mu.Unlock()
	merged := map[string]string{}
	for _, source := range p.sources {
		values, _ := source.Get()
		maps.Copy(merged, values)
	}
	p.merged.Store(&merged)
	p.log.Info("plugin configuration loaded", "keys", slices.Sorted(maps.Keys(merged)))
}

// secretTexts gives a Secret's values as text.
func secretTexts(secret *core.Secret) map[string]string {
	values := make(map[string]string, len(secret.Data))
	for key, value := range secret.Data {
		values[key] = string(value)
	}
	return values
}
