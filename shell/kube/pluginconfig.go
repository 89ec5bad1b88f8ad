package kube

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// PluginConfigOptions name where plugin configuration is. An empty name is not watched.
type PluginConfigOptions struct {
	Namespace string
	ConfigMap string
	Secret    string // its values go before those of the ConfigMap
}

// PluginConfig is the configuration of plugins in a ConfigMap and a Secret. Neither has to exist.
type PluginConfig struct {
	client  *Client
	log     *slog.Logger
	link    *link
	sources []*one[map[string]string] // later ones go first
	mu      sync.Mutex                // while merging
	merged  atomic.Pointer[map[string]string]
}

// NewPluginConfig prepares; Watch does the work.
func NewPluginConfig(client *Client, options PluginConfigOptions, log *slog.Logger) *PluginConfig {
	p := &PluginConfig{client: client, log: log}
	p.merged.Store(&map[string]string{})
	if options.ConfigMap != "" {
		p.sources = append(p.sources, watchOne("configmaps", options.Namespace, options.ConfigMap, decodeConfigMap))
	}
	if options.Secret != "" {
		p.sources = append(p.sources, watchOne("secrets", options.Namespace, options.Secret, decodeOpaque))
	}
	var targets []target
	for _, source := range p.sources {
		source.mirror.changed = p.merge
		targets = append(targets, source.target)
	}
	p.link = newLink(log, "plugin configuration", targets...)
	return p
}

// Config gives the configuration of this moment. The map is not changed after it was given.
func (p *PluginConfig) Config() map[string]string { return *p.merged.Load() }

// Watch follows the sources until ctx ends. Run it once.
func (p *PluginConfig) Watch(ctx context.Context) {
	var watches sync.WaitGroup
	for _, source := range p.sources {
		watches.Go(func() { p.client.watch(ctx, source.target, &source.mirror, p.link.report) })
	}
	watches.Wait()
}

// Synced tells whether the API server answered for every source, be it that it does not exist.
func (p *PluginConfig) Synced() bool {
	for _, source := range p.sources {
		if !source.answered(p.link) {
			return false
		}
	}
	return true
}

// Connected tells whether changes of all sources are being seen.
func (p *PluginConfig) Connected() bool { return p.link.connected() }

func (p *PluginConfig) merge() {
	p.mu.Lock()
	defer p.mu.Unlock()
	merged := map[string]string{}
	for _, source := range p.sources {
		values, _ := source.get()
		maps.Copy(merged, values)
	}
	p.merged.Store(&merged)
	p.log.Info("plugin configuration loaded", "keys", slices.Sorted(maps.Keys(merged)))
}

// decodeConfigMap passes over what is no text; the API server lets nothing else through.
func decodeConfigMap(object *unstructured.Unstructured) map[string]string {
	data, _, _ := unstructured.NestedStringMap(object.Object, "data")
	return data
}

func decodeOpaque(object *unstructured.Unstructured) map[string]string {
	content, _ := decodeSecret(object)
	values := make(map[string]string, len(content.Data))
	for key, value := range content.Data {
		values[key] = string(value)
	}
	return values
}
