package function

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/samber/lo"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
	"github.com/nirmata/kyverno-notation-venafi/shell/egress"
	"github.com/nirmata/kyverno-notation-venafi/shell/kube"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify"
)

const (
	// userAgent is what registries and the API server are told.
	userAgent = "kyverno-notation-venafi"
	// trustInterval is how often the trust directory is looked at.
	trustInterval = 500 * time.Millisecond
	// pluginsInterval is how often requests look at the installed plugins.
	pluginsInterval = time.Second
)

// sources is where trust, credentials and plugin configuration come from: files, or a cluster.
type sources struct {
	trust        TrustSource
	callers      CallerReview
	credential   registry.CredentialFunc
	pluginConfig plugin.Config
	watches      []func(context.Context)
	connected    func() bool                                             // to the API server; nil without one
	senders      CallerReview                                            // of events; nil lets nobody send any
	renew        func()                                                  // has trust looked at again
	bump         func(context.Context, string) error                     // has the other replicas do so
	synced       func() bool                                             // credentials and plugin configuration were asked for; nil without a cluster
	certificate  func(*serving) (watch func(context.Context), err error) // brings the serving certificate; nil for no TLS
	close        func()
}

// New wires the parts that settings ask for. It fails when a file that they name cannot be used.
func New(settings Settings, env Environment, log *slog.Logger) (*Function, error) {
	open := fromCluster
	if settings.TrustDir != "" {
		open = fromFiles
	}
	f := &Function{settings: settings, log: log, door: newDoor(settings)}
	f.prewarm = newPrewarm(settings.Prewarm, f.warm)
	from, err := open(settings, log, f.prewarm.trustChanged)
	if err != nil {
		return nil, err
	}
	f.trust, f.callers, f.watches, f.synced = from.trust, from.callers, from.watches, from.synced
	if err := f.secure(from); err != nil {
		return nil, err
	}
	clouds, err := registry.CloudKeychains(settings.CloudKeychains)
	if err != nil {
		return nil, err
	}
	client, err := registry.New(registry.Options{
		Credential:    firstOf(from.credential, clouds),
		CAFile:        settings.RegistryCAFile,
		InsecureHosts: settings.InsecureRegistries,
		AllowInsecure: settings.AllowInsecureRegistry,
		AllowLoopback: settings.AllowLoopback,
		MaxReferrers:  settings.MaxReferrers,
		MaxRequests:   settings.MaxRegistryRequests,
		UserAgent:     userAgent,
	})
	if err != nil {
		return nil, err
	}
	plugins, err := newPlugins(settings, from.pluginConfig, env)
	if err != nil {
		return nil, err
	}
	outcomes := newCache(settings)
	gatherer, err := verify.New(client, plugins, outcomes, verify.Options{
		Limits: verification.Limits{
			MaxReferrers:         settings.MaxReferrers,
			MaxSignatureAttempts: settings.MaxSignatureAttempts,
			Keep:                 time.Duration(settings.CacheTTL) * time.Second,
			KeepTags:             time.Duration(settings.TagCacheTTL) * time.Second,
		},
		MaxParallel:      settings.MaxParallel,
		StaleTags:        settings.StaleTags,
		MaxVerifications: settings.MaxVerifications,
		MaxQueued:        settings.MaxQueued,
		Egress:           egress.Rule{AllowLoopback: settings.AllowLoopback},
		PluginsEvery:     pluginsInterval,
	})
	if err != nil {
		outcomes.Close()
		return nil, err
	}
	f.gatherer, f.plugins = gatherer, plugins
	f.events = newEvents(from.senders, outcomes, from.trust, from.renew, from.bump, log)
	f.metrics = newMetrics(from.trust, from.connected, outcomes, f.serving)
	f.metrics.watch(gatherer, client, plugins)
	f.closers = []func(){gatherer.Close, from.close}
	return f, nil
}

// newPlugins makes the manager of the plugins that settings name.
func newPlugins(settings Settings, config plugin.Config, env Environment) (*plugin.Manager, error) {
	verifiers, err := plugin.ParseVerifiers(settings.PluginVerifies)
	if err != nil {
		return nil, err
	}
	hosts := make([]string, len(settings.PluginX5UHosts))
	for i, host := range settings.PluginX5UHosts {
		host = strings.TrimSpace(host)
		if hosts[i], err = trust.PlatformHost("https://" + host); err != nil || strings.ContainsAny(host, "/?") {
			return nil, fmt.Errorf("pluginX5UHosts: %q is no host, such as tpp.example.com or tpp.example.com:8443", host)
		}
	}
	return plugin.NewManager(plugin.Options{
		Dir:          settings.PluginDir,
		Config:       config,
		Timeout:      settings.PluginTimeout,
		Env:          pluginEnvironment(env),
		MaxProcesses: settings.MaxPluginProcesses,
		Verifiers:    verifiers,
		X5UHosts:     hosts,
	}), nil
}

// secure has the service speak TLS, with certificates from files, or else from where trust comes from.
func (f *Function) secure(from sources) (err error) {
	bring := from.certificate
	if f.settings.TLSCertFile != "" {
		bring = fromCertificateFiles(f.settings)
	}
	if bring == nil || f.settings.TLSAddress == "" {
		return nil
	}
	if f.serving, err = newServing(f.settings.TLSClientCAFile, f.log); err != nil {
		return err
	}
	watch, err := bring(f.serving)
	f.watches = append(f.watches, watch)
	return err
}

func fromCertificateFiles(settings Settings) func(*serving) (func(context.Context), error) {
	return func(s *serving) (func(context.Context), error) {
		files := &certificateFiles{chain: settings.TLSCertFile, key: settings.TLSKeyFile}
		return func(ctx context.Context) { files.watch(ctx, s, trustInterval) }, files.load(s)
	}
}

// newCache makes the cache that settings ask for. Without one, requests that come at once share their work still.
func newCache(settings Settings) *cache.Cache {
	options := cache.Options{Timeout: settings.RequestTimeout}
	if settings.CacheEnabled {
		options.Size = settings.CacheMaxSize
	}
	return cache.New(options)
}

// fromFiles takes trust from a directory. Nobody is asked who they are unless a cluster is there to ask.
func fromFiles(settings Settings, log *slog.Logger, changed func()) (sources, error) {
	if settings.ReviewKyvernoToken != nil && *settings.ReviewKyvernoToken {
		return sources{}, fmt.Errorf("reviewKyvernoToken needs a cluster, and trustDir is set; leave one of them out")
	}
	files, err := shelltrust.OpenFiles(settings.TrustDir, log, changed)
	if err != nil {
		return sources{}, err
	}
	return sources{
		trust:        files,
		credential:   registry.DockerConfig(settings.DockerConfig),
		pluginConfig: func() map[string]string { return settings.PluginConfig },
		watches:      []func(context.Context){func(ctx context.Context) { files.Watch(ctx, trustInterval) }},
		close:        func() {},
	}, nil
}

// fromCluster takes everything from the API server, and watches it.
func fromCluster(settings Settings, log *slog.Logger, changed func()) (sources, error) {
	client, err := connect(settings)
	if err != nil {
		return sources{}, fmt.Errorf("no trust: name a directory in --trustDir, or run in a cluster: %w", err)
	}
	resources := kube.NewTrust(client, log, changed)
	secrets := kube.NewPullSecrets(client, client.Namespace, settings.ImagePullSecrets, log)
	config := kube.NewPluginConfig(client, kube.PluginConfigOptions{
		Namespace: client.Namespace, ConfigMap: settings.PluginConfigMap, Secret: settings.PluginConfigSecret,
	}, log)
	epoch := kube.NewEpoch(client, client.Namespace, settings.EpochConfigMap, log, resources.Renew)
	links := []interface{ Connected() bool }{resources, secrets, config, epoch}
	from := sources{
		trust:        resources,
		credential:   firstOf(secrets.Credential, registry.DockerConfig(settings.DockerConfig)),
		pluginConfig: merged(config.Config, settings.PluginConfig),
		watches:      []func(context.Context){resources.Watch, secrets.Watch, config.Watch, epoch.Watch},
		connected: func() bool {
			return lo.EveryBy(links, func(l interface{ Connected() bool }) bool { return l.Connected() })
		},
		synced:  func() bool { return secrets.Synced() && config.Synced() },
		senders: kube.NewReviewer(client, kube.ReviewerOptions{Audiences: settings.EventAudiences, AllowedUsers: settings.EventUsers}),
		renew:   resources.Renew,
		bump:    epoch.Bump,
		certificate: func(s *serving) (func(context.Context), error) {
			secret := kube.NewTLSSecret(client, client.Namespace, settings.TLSSecret, log, s.take)
			links = append(links, secret)
			return secret.Watch, nil
		},
		close: client.Close,
	}
	if settings.VerifyWithoutToken {
		log.Warn("verifyWithoutToken is set: whoever reaches the port may ask /verify")
	}
	if settings.ReviewKyvernoToken == nil || *settings.ReviewKyvernoToken {
		var secret *kube.CallerSecret
		if settings.CallerSecret != "" {
			secret = kube.NewCallerSecret(client, client.Namespace, settings.CallerSecret, log)
			links, from.watches = append(links, secret), append(from.watches, secret.Watch)
			from.synced = func() bool { return secrets.Synced() && config.Synced() && secret.Synced() }
		}
		from.callers = kube.NewCallers(secret, kube.NewReviewer(client, kube.ReviewerOptions{Audiences: settings.TokenAudiences, AllowedUsers: settings.AllowedUsers}))
	}
	return from, nil
}

// connect makes a client of the API server, for the service's namespace.
func connect(settings Settings) (*kubeclient.Client, error) {
	client, err := kubeclient.Connect(settings.Kubeconfig, userAgent)
	if err == nil && settings.Namespace != "" {
		client.Namespace = settings.Namespace
	}
	return client, err
}

// firstOf gives the first credentials that are not empty.
func firstOf(sources ...registry.CredentialFunc) registry.CredentialFunc {
	return func(ctx context.Context, host, repository string) (auth.Credential, error) {
		for _, source := range sources {
			if credential, err := source(ctx, host, repository); err != nil || credential != auth.EmptyCredential {
				return credential, err
			}
		}
		return auth.EmptyCredential, nil
	}
}

// merged puts the settings' own plugin configuration before the cluster's.
func merged(cluster plugin.Config, own map[string]string) plugin.Config {
	if len(own) == 0 {
		return cluster
	}
	return func() map[string]string { return lo.Assign(cluster(), own) }
}

// pluginEnvironment is what a plugin gets to see of the service's environment: where certificates and proxies
// are, and nothing that may be secret.
func pluginEnvironment(env Environment) []string {
	var passed []string
	for _, name := range []string{
		"PATH", "HOME", "GOMAXPROCS", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	} {
		if value, ok := env(name); ok {
			passed = append(passed, name+"="+value)
		}
	}
	return passed
}
