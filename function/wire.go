package function

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/samber/lo"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	coreshared "github.com/nirmata/kyverno-notation-venafi/core/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
	"github.com/nirmata/kyverno-notation-venafi/shell/egress"
	"github.com/nirmata/kyverno-notation-venafi/shell/kube"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/sandbox"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry"
	"github.com/nirmata/kyverno-notation-venafi/shell/tracing"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify"
)

const (
	// userAgent is the User-Agent of requests to registries and to the API server.
	userAgent = "kyverno-notation-venafi"
	// trustInterval is how often the files of trustDir, tlsCertFile and tlsKeyFile are checked for changes.
	trustInterval = 500 * time.Millisecond
	// pluginsInterval is how often the plugin directory is checked for changes, on requests.
	pluginsInterval = time.Second
)

// sources is where trust, credentials and plugin configuration come from: files, or a cluster.
type sources struct {
	trust        TrustSource
	callers      CallerReview
	credential   registry.CredentialFunc
	pluginConfig plugin.Config
	watches      []func(context.Context)
	connected    func() bool                                             // whether all watches of the API server are up; nil without a cluster
	senders      CallerReview                                            // reviews who sends an event; nil refuses all events
	readers      CallerReview                                            // reviews who reads decisions; nil refuses all
	recordKey    func() *certificates.Pair                               // the key that signs records; nil while there is none
	sharedKey    func() coreshared.Keyring                               // the key that seals what replicas share; nil where none do
	renew        func()                                                  // lists the trust resources again
	bump         func(context.Context, string) error                     // has the other replicas do so, by a new value of the epoch
	synced       func() bool                                             // whether credentials and plugin configuration were read; nil without a cluster
	certificate  func(*serving) (watch func(context.Context), err error) // the source of the serving certificate; nil for no TLS
	denials      *kube.Denials                                           // records denials as Events; nil for nobody
	close        func()

	client    *kubeclient.Client       // nil without a cluster
	appliesTo func() []audit.AppliesTo // which trust policies hold for a namespace by themselves; nil without a cluster
}

// New wires the parts that the settings ask for. It fails when a file that they name cannot be used.
func New(settings Settings, env Environment, log *slog.Logger) (*Function, error) {
	open := fromCluster
	if settings.TrustDir != "" {
		open = fromFiles
	}
	f := &Function{settings: settings, log: log, limiter: newLimiter(settings), inspected: make(chan struct{})}
	f.prewarm = newPrewarm(settings.Prewarm, f.warm)
	from, err := open(settings, log, f.prewarm.trustChanged)
	if err != nil {
		return nil, err
	}
	if f.tracing, err = tracing.New(tracing.Environment(env), userAgent, log); err != nil {
		return nil, err
	}
	f.trust, f.callers, f.watches, f.synced = from.trust, from.callers, from.watches, from.synced
	if err := f.secure(from); err != nil {
		return nil, err
	}
	if f.shared, err = newShared(settings, from.sharedKey, log); err != nil {
		return nil, err
	}
	outcomes := newCache(settings)
	f.engine, err = newEngine(settings, from.credential, from.pluginConfig, env, outcomes, verification.Limits{KeepTags: time.Duration(settings.TagCacheTTL) * time.Second}, nil, f.shared)
	if err != nil {
		outcomes.Close()
		return nil, err
	}
	if f.decisions, err = newDecisions(settings, from.readers, from.recordKey, log); err != nil {
		f.gatherer.Close()
		return nil, err
	}
	f.events = newEvents(from.senders, outcomes, from.trust, from.renew, from.bump, log)
	f.metrics = newMetrics(from.trust, from.connected, outcomes, f.serving)
	f.metrics.gauge("ready", "1 while the service is ready to answer.", func() float64 { return oneIf(f.Ready() == nil) })
	f.metrics.watchShared(f.shared)
	f.metrics.watch(f.gatherer, f.registry, f.plugins, f.limiter, f.tracing)
	if f.denials = from.denials; f.denials != nil {
		f.metrics.watchDenials(f.denials)
	}
	f.metrics.watchEvents(f.events)
	f.metrics.watchRecords(f.decisions.recorder)
	f.closers = []func(){f.gatherer.Close, f.shared.close, f.tracing.Close, from.close}
	return f, nil
}

// engine is what verifies images.
type engine struct {
	registry *registry.Client
	plugins  *plugin.Manager
	gatherer *verify.Gatherer
}

// newEngine makes the engine. Of the limits it sets those that have settings of their own. pace and second may be nil.
func newEngine(settings Settings, credential registry.CredentialFunc, config plugin.Config, env Environment, outcomes *cache.Cache, limits verification.Limits, pace registry.Pace, second *shared) (e engine, err error) {
	clouds, err := registry.CloudKeychains(settings.CloudKeychains)
	if err != nil {
		return e, err
	}
	mirrors, err := registry.ParseMirrors(settings.RegistryMirrors)
	if err != nil {
		return e, err
	}
	e.registry, err = registry.New(registry.Options{
		Credential:     firstOf(credential, clouds),
		CAFile:         settings.RegistryCAFile,
		InsecureHosts:  settings.InsecureRegistries,
		AllowInsecure:  settings.AllowInsecureRegistry,
		AllowLoopback:  settings.AllowLoopback,
		Mirrors:        mirrors,
		MirrorsResolve: settings.MirrorsResolve,
		MaxReferrers:   settings.MaxReferrers,
		MaxRequests:    settings.MaxRegistryRequests,
		Pace:           pace,
		Shared:         second.pauses(),
		UserAgent:      userAgent,
		Traceparent:    settings.TraceRegistries,
	})
	if err != nil {
		return e, err
	}
	if e.plugins, err = newPlugins(settings, config, env); err != nil {
		return e, err
	}
	limits.MaxReferrers, limits.MaxSignatureAttempts, limits.MaxPlatforms = settings.MaxReferrers, settings.MaxSignatureAttempts, settings.MaxPlatforms
	limits.Keep = time.Duration(settings.CacheTTL) * time.Second
	e.gatherer, err = verify.New(e.registry, e.plugins, outcomes, verify.Options{
		Limits:           limits,
		MaxParallel:      settings.MaxParallel,
		StaleTags:        settings.StaleTags,
		MaxVerifications: settings.MaxVerifications,
		MaxQueued:        settings.MaxQueued,
		Egress:           egress.Rule{AllowLoopback: settings.AllowLoopback},
		PluginsEvery:     pluginsInterval,
		Shared:           second.level(),
	})
	return e, err
}

// newPlugins makes the plugin manager from the settings.
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
	mode, err := plugin.ParseSandbox(settings.PluginSandbox)
	if err != nil {
		return nil, err
	}
	if lacks := sandbox.Probe().Essential; mode == sandbox.Require && len(lacks) > 0 {
		return nil, fmt.Errorf("pluginSandbox: the kernel lacks %s, without which plugins cannot be confined; run on another node, or set prefer", strings.Join(lacks, ", "))
	}
	reach, err := plugin.ParseReach(settings.PluginSandboxPaths)
	if err != nil {
		return nil, err
	}
	return plugin.NewManager(plugin.Options{
		Sandbox:      mode,
		Reach:        reach,
		Dir:          settings.PluginDir,
		Config:       config,
		Timeout:      settings.PluginTimeout,
		Env:          pluginEnvironment(env),
		MaxProcesses: settings.MaxPluginProcesses,
		Verifiers:    verifiers,
		X5UHosts:     hosts,
	}), nil
}

// secure sets up TLS, with the certificate files of the settings, or else with the certificate of the sources.
func (f *Function) secure(from sources) (err error) {
	source := from.certificate
	if f.settings.TLSCertFile != "" {
		source = fromCertificateFiles(f.settings)
	}
	if source == nil || f.settings.TLSAddress == "" {
		return nil
	}
	if f.serving, err = newServing(f.settings.TLSClientCAFile, f.log); err != nil {
		return err
	}
	watch, err := source(f.serving)
	f.watches = append(f.watches, watch)
	return err
}

func fromCertificateFiles(settings Settings) func(*serving) (func(context.Context), error) {
	return func(s *serving) (func(context.Context), error) {
		files := &certificateFiles{chain: settings.TLSCertFile, key: settings.TLSKeyFile}
		return func(ctx context.Context) { files.watch(ctx, s, trustInterval) }, files.load(s)
	}
}

// newCache makes the cache. With caching disabled it holds nothing, but concurrent lookups for one key still run once.
func newCache(settings Settings) *cache.Cache {
	options := cache.Options{Timeout: settings.RequestTimeout}
	if settings.CacheEnabled {
		options.Size = settings.CacheMaxSize
	}
	return cache.New(options)
}

// fromFiles takes trust from a directory. Callers are not authenticated, since there is no API server to review tokens.
func fromFiles(settings Settings, log *slog.Logger, changed func()) (sources, error) {
	if settings.ReviewKyvernoToken != nil && *settings.ReviewKyvernoToken {
		return sources{}, fmt.Errorf("reviewKyvernoToken needs a cluster, and trustDir is set; leave one of them out")
	}
	if settings.DenialEvents {
		return sources{}, fmt.Errorf("denialEvents needs a cluster, and trustDir is set; leave one of them out")
	}
	files, err := shelltrust.OpenFiles(settings.TrustDir, log, changed)
	if err != nil {
		return sources{}, err
	}
	from := sources{
		trust:        files,
		credential:   registry.DockerConfig(settings.DockerConfig),
		pluginConfig: func() map[string]string { return settings.PluginConfig },
		watches:      []func(context.Context){func(ctx context.Context) { files.Watch(ctx, trustInterval) }},
		recordKey:    func() *certificates.Pair { return nil },
		close:        func() {},
	}
	return from, from.sharedKeyFile(settings, log)
}

// fromCluster takes trust, credentials, plugin configuration and the serving certificate from the API server, and watches
// them.
func fromCluster(settings Settings, log *slog.Logger, changed func()) (sources, error) {
	client, err := settings.Connect()
	if err != nil {
		return sources{}, fmt.Errorf("no trust: name a directory in --trustDir, or run in a cluster: %w", err)
	}
	resources := kube.NewTrust(client, log, changed)
	secrets := kube.NewPullSecrets(client, client.Namespace, settings.ImagePullSecrets, log)
	config := kube.NewPluginConfig(client, kube.PluginConfigOptions{
		Namespace: client.Namespace, ConfigMap: settings.PluginConfigMap, Secret: settings.PluginConfigSecret,
	}, log)
	epoch := kube.NewEpoch(client, client.Namespace, settings.EpochConfigMap, log, resources.Renew)
	sharing := func() bool { return true }
	watched := []interface{ Connected() bool }{resources, secrets, config, epoch}
	from := sources{
		trust:        resources,
		credential:   firstOf(secrets.Credential, registry.DockerConfig(settings.DockerConfig)),
		pluginConfig: merged(config.Config, settings.PluginConfig),
		watches:      []func(context.Context){resources.Watch, secrets.Watch, config.Watch, epoch.Watch},
		connected: func() bool {
			return lo.EveryBy(watched, func(w interface{ Connected() bool }) bool { return w.Connected() })
		},
		synced:  func() bool { return secrets.Synced() && config.Synced() && sharing() },
		senders: kube.NewReviewer(client, kube.ReviewerOptions{Audiences: settings.EventAudiences, AllowedUsers: settings.EventUsers}),
		renew:   resources.Renew,
		bump:    epoch.Bump,
		certificate: func(s *serving) (func(context.Context), error) {
			secret := kube.NewTLSSecret(client, client.Namespace, settings.TLSSecret, log, s.replace)
			watched = append(watched, secret)
			return secret.Watch, nil
		},
		recordKey: func() *certificates.Pair { return nil },
		close:     client.Close,
		client:    client,
		appliesTo: func() []audit.AppliesTo {
			policies, stores, _ := resources.All()
			applied, _ := shelltrust.Resources{Policies: policies, Stores: stores}.AppliesTo() // certmanager writes problems to the status
			return applied
		},
	}
	if settings.DecisionKeySecret != "" && (settings.DecisionLog != "" || settings.DecisionSink != "") {
		key := kube.NewRecordKey(client, client.Namespace, settings.DecisionKeySecret, log)
		watched, from.watches, from.recordKey = append(watched, key), append(from.watches, key.Watch), key.Key
	}
	if err := from.sharedKeyFile(settings, log); err != nil {
		return sources{}, err
	}
	if name := settings.SharedKeys(); name != "" {
		around, err := surroundings(settings)
		if err != nil {
			return sources{}, err
		}
		key := kube.NewSharedKey(client, client.Namespace, name, around, log)
		watched, from.watches, from.sharedKey, sharing = append(watched, key), append(from.watches, key.Watch), key.Keyring, key.Synced
	}
	if len(settings.DecisionUsers) > 0 {
		from.readers = kube.NewReviewer(client, kube.ReviewerOptions{Audiences: settings.DecisionAudiences, AllowedUsers: settings.DecisionUsers})
	}
	if settings.DenialEvents {
		from.denials = kube.NewDenials(client, hostname(), log)
		from.watches = append(from.watches, from.denials.Watch)
	}
	if settings.VerifyWithoutToken {
		log.Warn("verifyWithoutToken is set: whoever reaches the port may ask /verify")
	}
	if settings.ReviewKyvernoToken == nil || *settings.ReviewKyvernoToken {
		var secret *kube.CallerSecret
		if settings.CallerSecret != "" {
			secret = kube.NewCallerSecret(client, client.Namespace, settings.CallerSecret, log)
			watched, from.watches = append(watched, secret), append(from.watches, secret.Watch)
			from.synced = func() bool { return secrets.Synced() && config.Synced() && sharing() && secret.Synced() }
		}
		from.callers = kube.NewCallers(secret, kube.NewReviewer(client, kube.ReviewerOptions{Audiences: settings.TokenAudiences, AllowedUsers: settings.AllowedUsers}))
	}
	return from, nil
}

// Connect makes a client of the API server. Its namespace is that of the settings, if they have one.
func (s Settings) Connect() (*kubeclient.Client, error) {
	client, err := kubeclient.Connect(kubeclient.Source{Kubeconfig: s.Kubeconfig, Context: s.Context}, userAgent)
	if err == nil && s.Namespace != "" {
		client.Namespace = s.Namespace
	}
	return client, err
}

// firstOf gives the first credential that is not empty.
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

// merged is the plugin configuration of the cluster, overridden by that of the settings.
func merged(cluster plugin.Config, own map[string]string) plugin.Config {
	if len(own) == 0 {
		return cluster
	}
	return func() map[string]string { return lo.Assign(cluster(), own) }
}

// pluginEnvironment is the part of the service's environment that a plugin gets: the locations of certificates and proxies,
// and nothing that may be secret.
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
