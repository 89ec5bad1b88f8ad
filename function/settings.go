package function

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache"
)

// Settings are all settings of the service. Each has a flag and an environment variable; the flag goes first. A command has the flags of
// the groups that it names, by the tag for; see Flags. The table in function/README.md is made from the tags.
type Settings struct {
	TrustDir           string `flag:"trustDir" for:"trust" env:"TRUST_DIR" help:"Directory with TrustPolicy and TrustStore files (YAML or JSON); reloaded on change."`
	Kubeconfig         string `flag:"kubeconfig" for:"trust" env:"KUBECONFIG" help:"Without trustDir: kubeconfig file of the cluster that holds the trust resources; else the pod's own cluster."`
	Context            string `flag:"context" for:"trust" env:"KUBE_CONTEXT" help:"Context of the kubeconfig; else its current one."`
	Namespace          string `flag:"namespace" for:"namespace" env:"POD_NAMESPACE" help:"With a cluster: the service's namespace; else that of its pod, or of the kubeconfig."`
	DefaultTrustPolicy string `flag:"defaultTrustPolicy" for:"trust" env:"DEFAULT_TRUST_POLICY" help:"Trust policy for requests that name none."`

	PlainAddress     string        `flag:"plainAddress" for:"plain" env:"PLAIN_ADDRESS" default:":8080" help:"Address for plain HTTP; empty for none. PORT, if set, gives the default's port."`
	TLSAddress       string        `flag:"tlsAddress" for:"serving" env:"TLS_ADDRESS" default:":9443" help:"Address for HTTPS; with trustDir only where tlsCertFile is set."`
	TLSSecret        string        `flag:"tlsSecret" for:"serving" env:"TLS_SECRET" default:"kyverno-notation-venafi-tls" help:"With a cluster: Secret in the service's namespace with the serving certificate (kubernetes.io/tls); watched. It is what certmanager writes."`
	TLSCertFile      string        `flag:"tlsCertFile" for:"tls" env:"TLS_CERT_FILE" help:"PEM file with the serving certificate, instead of the Secret; reloaded on change."`
	TLSKeyFile       string        `flag:"tlsKeyFile" for:"tls" env:"TLS_KEY_FILE" help:"PEM file with its key."`
	TLSClientCAFile  string        `flag:"tlsClientCAFile" for:"tls" env:"TLS_CLIENT_CA_FILE" help:"PEM file with CAs; over HTTPS only those are served who have a certificate of theirs."`
	RequestTimeout   time.Duration `flag:"requestTimeout" for:"verification" env:"REQUEST_TIMEOUT" default:"8s" help:"Time for one request; below the webhook's own timeout."`
	MaxBodyBytes     int           `flag:"maxBodyBytes" for:"serving" env:"MAX_BODY_BYTES" default:"4194304" help:"Bound on a request's body."`
	MaxParallel      int           `flag:"maxParallel" for:"verification" env:"MAX_PARALLEL" default:"16" help:"Images of one request that are verified at once."`
	MaxRequests      int           `flag:"maxRequests" for:"serving" env:"MAX_REQUESTS" default:"1024" help:"Requests that are worked on at once, three quarters of them under one trust policy; more are answered with 503."`
	MaxVerifications int           `flag:"maxVerifications" for:"serving" env:"MAX_VERIFICATIONS" default:"64" help:"Images and attestation types that are verified at once for all requests, three quarters of them under one trust policy. What was kept is not counted."`
	MaxQueued        int           `flag:"maxQueued" for:"serving" env:"MAX_QUEUED" default:"1024" help:"Of those, how many may wait, half of them under one trust policy; the trust policies take turns. More are answered with 503."`
	MaxBackground    int           `flag:"maxBackground" for:"serving" env:"MAX_BACKGROUND" default:"2" help:"Requests of background scans that are worked on at once, one image at a time each; the others wait, up to half of requestTimeout. Background are requests with the header Priority: u=7, and those of backgroundUsers."`
	BackgroundUsers  []string      `flag:"backgroundUsers" for:"serving" env:"BACKGROUND_USERS" default:"system:serviceaccount:kyverno:kyverno-background-controller,system:serviceaccount:kyverno:kyverno-reports-controller" help:"Of the allowed users, those whose requests are answered last, since nobody waits for them, comma-separated."`
	DrainDelay       time.Duration `flag:"drainDelay" for:"serving" env:"DRAIN_DELAY" default:"5s" help:"After SIGTERM, time to go on serving while endpoints are updated."`
	DrainTimeout     time.Duration `flag:"drainTimeout" for:"serving" env:"DRAIN_TIMEOUT" default:"15s" help:"After that, time for requests in flight."`
	LogLevel         string        `flag:"logLevel" for:"log" env:"LOG_LEVEL" default:"info" help:"debug, info, warn or error."`

	DenialEvents    bool   `flag:"denialEvents" for:"serving" env:"DENIAL_EVENTS" default:"false" help:"With a cluster: record verdicts that deny an admission as Events on the controller of the object, such as its ReplicaSet, else on its namespace. The service must be allowed to create and patch Events."`
	PprofAddress    string `flag:"pprofAddress" for:"serving" env:"PPROF_ADDRESS" help:"Address for Go's profiles, /debug/pprof/, such as :6060; on loopback where it names no host. Empty for none. Whoever reaches it sees what is in memory."`
	TraceRegistries bool   `flag:"traceRegistries" for:"serving" env:"TRACE_REGISTRIES" default:"false" help:"Where requests are traced (OTEL_EXPORTER_OTLP_ENDPOINT), send registries the header traceparent."`

	ReviewKyvernoToken *bool    `flag:"reviewKyvernoToken" for:"callers" env:"REVIEW_KYVERNO_TOKEN" help:"Authenticate callers of /checkimages and /verify by their bearer token: one of callerSecret, or of an account by a TokenReview. Default: true with a cluster, false with trustDir."`
	TokenAudiences     []string `flag:"tokenAudiences" for:"callers" env:"TOKEN_AUDIENCES" default:"kyverno-svc.kyverno.io" help:"Audiences of which a caller's token must name one, comma-separated."`
	AllowedUsers       []string `flag:"allowedUsers" for:"callers" env:"ALLOWED_USERS" default:"system:serviceaccount:kyverno:kyverno-admission-controller,system:serviceaccount:kyverno:kyverno-background-controller,system:serviceaccount:kyverno:kyverno-reports-controller" help:"Users who may ask, comma-separated."`
	CallerSecret       string   `flag:"callerSecret" for:"callerSecret" env:"CALLER_SECRET" default:"kyverno-notation-venafi-caller" help:"With a cluster: Secret in the service's namespace with bearer tokens for callers that have none of an account, such as CEL policies, in its keys token, next and previous; watched. certmanager makes it and replaces the token. Empty for none."`
	VerifyWithoutToken bool     `flag:"verifyWithoutToken" for:"callers" env:"VERIFY_WITHOUT_TOKEN" default:"false" help:"Answer /verify whoever asks. Dangerous: everyone who reaches the port then learns what is signed and attested, read with the service's credentials, and has it work."`

	DecisionKeySecret string `flag:"decisionKeySecret" for:"keys" env:"DECISION_KEY_SECRET" default:"kyverno-notation-venafi-records" help:"With a cluster: Secret in the service's namespace with the key that signs decision records; watched where they are written. certmanager makes it and replaces the key, and publishes the public keys in the ConfigMap of this name. Empty for none: then records are chained, and not signed."`

	EventAudiences []string `flag:"eventAudiences" for:"serving" env:"EVENT_AUDIENCES" default:"kyverno-notation-venafi-events" help:"Audiences of which the token of a CloudEvent's sender must name one, comma-separated."`
	EventUsers     []string `flag:"eventUsers" for:"serving" env:"EVENT_USERS" default:"system:serviceaccount:kyverno-notation-venafi:*" help:"Users who may send CloudEvents, comma-separated; * at the end stands for any rest."`
	EpochConfigMap string   `flag:"epochConfigMap" for:"epoch" env:"EPOCH_CONFIG_MAP" default:"kyverno-notation-venafi-epoch" help:"With a cluster: ConfigMap in the service's namespace by which a replica that got a CloudEvent tells the others."`
	Prewarm        int      `flag:"prewarm" for:"serving" env:"PREWARM" default:"0" help:"Images, of those verified last, that are verified anew after a change of trust before anyone asks; 0 for none."`

	DecisionsInMemory     int      `flag:"decisionsInMemory" for:"records" env:"DECISIONS_IN_MEMORY" default:"256" help:"Records of decisions that stay in memory, up to 8 MiB, for GET /decisions; 0 for none."`
	DecisionLog           string   `flag:"decisionLog" for:"records" env:"DECISION_LOG" help:"File to which a line is written for each record of a decision; - for standard output."`
	DecisionLogMaxBytes   int      `flag:"decisionLogMaxBytes" for:"records" env:"DECISION_LOG_MAX_BYTES" default:"104857600" help:"Bound on that file, which then becomes FILE.1 in place of an older one; 0 for none."`
	DecisionSink          string   `flag:"decisionSink" for:"records" env:"DECISION_SINK" help:"URL to which records of decisions are sent as CloudEvents, in batches."`
	RecordKept            int      `flag:"recordKept" for:"records" env:"RECORD_KEPT" default:"0" help:"Of the decisions that admit by what was kept, every so many-th is recorded too; 1 for all, 0 for those with the header Record-Decision only."`
	DecisionAudiences     []string `flag:"decisionAudiences" for:"records" env:"DECISION_AUDIENCES" default:"kyverno-notation-venafi-decisions" help:"Audiences of which the token of a reader of GET /decisions must name one, comma-separated."`
	DecisionUsers         []string `flag:"decisionUsers" for:"records" env:"DECISION_USERS" help:"Users who may read GET /decisions, comma-separated; * at the end stands for any rest. Records tell of all namespaces."`
	DecisionsWithoutToken bool     `flag:"decisionsWithoutToken" for:"records" env:"DECISIONS_WITHOUT_TOKEN" default:"false" help:"Show GET /decisions to everyone who reaches the port. For development."`

	PluginDir          string            `flag:"pluginDir" for:"plugins" env:"PLUGINS_DIR" default:"/plugins" help:"Directory of Notation plugins, <name>/notation-<name>."`
	PluginConfig       map[string]string `flag:"pluginConfig" for:"plugins" env:"PLUGIN_CONFIG" help:"Configuration for plugins as key=value; repeatable, comma-separated in the environment."`
	PluginConfigMap    string            `flag:"pluginConfigMap" for:"cluster" env:"PLUGIN_CONFIG_MAP" default:"notation-plugin-config" help:"With a cluster: ConfigMap in the service's namespace with configuration for plugins; watched."`
	PluginConfigSecret string            `flag:"pluginConfigSecret" for:"cluster" env:"PLUGIN_CONFIG_SECRET" help:"With a cluster: Secret in the service's namespace with configuration for plugins; watched, and goes before the ConfigMap."`
	PluginX5UHosts     []string          `flag:"pluginX5UHosts" for:"plugins" env:"PLUGIN_X5U_HOSTS" help:"Hosts, with a port where it is not 443, comma-separated, from which a plugin may fetch the certificate that a signature names (x5u), beside that of tpp_url in its configuration. From any other nothing is fetched, and the signature is denied."`
	PluginVerifies     []string          `flag:"pluginVerifies" for:"plugins" env:"PLUGIN_VERIFIES" help:"Versions of plugins, as name@version, comma-separated, that verify signatures although their metadata does not declare so. venafi-csp@0.3.3 is known."`
	PluginSandbox      string            `flag:"pluginSandbox" for:"plugins" env:"PLUGIN_SANDBOX" default:"prefer" help:"How plugin processes are confined: prefer does what the kernel can and logs what it lacks, require does not start on a kernel that lacks Landlock or seccomp, off does nothing. Dangerous: without it a plugin reads what the service reads."`
	PluginSandboxPaths []string          `flag:"pluginSandboxPaths" for:"plugins" env:"PLUGIN_SANDBOX_PATHS" help:"Absolute paths that plugins may read and execute beside their own folder, or with :rw after them read and write, comma-separated; such as /lib,/lib64,/usr/lib for a plugin with shared libraries."`
	PluginTimeout      time.Duration     `flag:"pluginTimeout" for:"plugins" env:"PLUGIN_TIMEOUT" default:"6s" help:"Time for one plugin process."`
	MaxPluginProcesses int               `flag:"maxPluginProcesses" for:"plugins" env:"MAX_PLUGIN_PROCESSES" default:"0" help:"Plugin processes that run at once; 0 is two for each CPU. The others wait, with their request's time."`

	CacheEnabled bool `flag:"cacheEnabled" for:"cache" env:"CACHE_ENABLED" default:"true" help:"Keep outcomes of verifications, under the trust that they were made under."`
	CacheTTL     int  `flag:"cacheTTLDurationSeconds" for:"cache" env:"CACHE_TTL_DURATION_SECONDS" default:"3600" help:"Seconds for which an outcome that speaks for an image is kept; less where a certificate, signature or revocation list ends before. Denials are kept for 10."`
	CacheMaxSize int  `flag:"cacheMaxSize" for:"verification" env:"CACHE_MAX_SIZE" default:"1000" help:"Outcomes that are kept at most: one per digest, and one more per tag, per trust policy, and per attestation type with its conditions."`
	TagCacheTTL  int  `flag:"tagCacheTTLDurationSeconds" for:"cache" env:"TAG_CACHE_TTL_DURATION_SECONDS" default:"10" help:"Seconds for which a tag's digest is kept; a tag that is moved is seen after so long."`
	StaleTags    bool `flag:"staleTags" for:"cache" env:"STALE_TAGS" default:"false" help:"While a registry fails, take a tag for the digest that it had last, up to cacheTTLDurationSeconds ago. The answer says so."`

	SharedCache             string        `flag:"sharedCache" for:"shared" env:"SHARED_CACHE" help:"Server of the Redis protocol through which replicas share outcomes, such as redis://cache.example:6379; rediss:// for TLS, user@ for a user, ?addr=HOST:PORT for further addresses with &sentinel=NAME or &cluster=true. It need not be trusted. Empty for none."`
	SharedCachePasswordFile string        `flag:"sharedCachePasswordFile" for:"shared" env:"SHARED_CACHE_PASSWORD_FILE" help:"File with the password for that server; read for each connection."`
	SharedCacheCAFile       string        `flag:"sharedCacheCAFile" for:"shared" env:"SHARED_CACHE_CA_FILE" help:"PEM file with the CAs of that server, instead of the system's."`
	SharedCacheKeySecret    string        `flag:"sharedCacheKeySecret" for:"shared" env:"SHARED_CACHE_KEY_SECRET" default:"kyverno-notation-venafi-shared-cache" help:"With a cluster: Secret in the service's namespace with the key that seals what is shared, in its keys token, next and previous; watched. certmanager makes it and replaces the key where sharedCache is set."`
	SharedCacheKeyFile      string        `flag:"sharedCacheKeyFile" for:"shared" env:"SHARED_CACHE_KEY_FILE" help:"File with that key instead, at least 26 random characters in a line, and maybe the one before it in another; read again every 10s."`
	SharedCacheWait         time.Duration `flag:"sharedCacheWait" for:"shared" env:"SHARED_CACHE_WAIT" default:"10ms" help:"Time that a verification waits for that server, in all. While another replica works on the same image it is up to 1s more, or twice what verifications take of late, up to 3s."`

	MaxSignatureAttempts  int      `flag:"maxSignatureAttempts" for:"verification" env:"MAX_SIGNATURE_ATTEMPTS" default:"30" help:"Signatures of an artifact that are tried."`
	MaxReferrers          int      `flag:"maxReferrers" for:"verification" env:"MAX_REFERRERS" default:"200" help:"Referrers of one artifact and type that are looked at."`
	MaxPlatforms          int      `flag:"maxPlatforms" for:"verification" env:"MAX_PLATFORMS" default:"32" help:"Manifests of an index that are verified beside it, where a trust policy or request chooses platforms."`
	MaxRegistryRequests   int      `flag:"maxRegistryRequests" for:"registries" env:"MAX_REGISTRY_REQUESTS" default:"64" help:"Reads from one registry that are under way at once; the others wait, with their request's time."`
	RegistryMirrors       []string `flag:"registryMirrors" for:"registries" env:"REGISTRY_MIRRORS" help:"Mirrors and pull-through caches of registries, as host=mirror,mirror; a mirror is a host, with what its repositories begin with after a slash. They are asked first for what a digest vouches for, and with their own credentials."`
	MirrorsResolve        bool     `flag:"mirrorsResolve" for:"registries" env:"MIRRORS_RESOLVE" default:"false" help:"Ask mirrors first for tags and for lists of signatures and attestations too, as in clusters that do not reach the registries themselves. Dangerous: who runs a mirror can then move a tag back to an older image that is signed, and leave attestations out."`
	RegistryCAFile        string   `flag:"registryCAFile" for:"registries" env:"REGISTRY_CA_FILE" help:"PEM file of further CAs for registries, beside the system's (SSL_CERT_FILE, SSL_CERT_DIR)."`
	InsecureRegistries    []string `flag:"insecureRegistries" for:"registries" env:"INSECURE_REGISTRIES" help:"Registry hosts, comma-separated, that are spoken to over plain HTTP."`
	AllowInsecureRegistry bool     `flag:"allowInsecureRegistry" for:"registries" env:"ALLOW_INSECURE_REGISTRY" default:"false" help:"Speak plain HTTP to any registry that does not speak TLS. Dangerous: who sits on the network can answer."`
	AllowLoopback         bool     `flag:"allowLoopback" for:"registries" env:"ALLOW_LOOPBACK" default:"false" help:"Connect to this machine itself: to registries that are named localhost or by a loopback address, and to revocation and timestamping services there. For development: whoever names an image or signs one chooses the port."`
	ImagePullSecrets      []string `flag:"imagePullSecrets" for:"cluster" env:"IMAGE_PULL_SECRETS" help:"With a cluster: Secrets in the service's namespace with registry credentials, comma-separated; watched."`
	CloudKeychains        []string `flag:"cloudKeychains" for:"registries" env:"CLOUD_KEYCHAINS" help:"Clouds whose registry credentials the pod's own identity gives: ecr, gcr, acr, comma-separated."`
	DockerConfig          string   `flag:"dockerConfig" for:"registries" env:"DOCKER_CONFIG_FILE" help:"Docker configuration file with registry credentials and helpers; else Docker's own ($DOCKER_CONFIG or ~/.docker)."`
}

// Environment looks up an environment variable, as os.LookupEnv does.
type Environment func(name string) (string, bool)

// LoadSettings reads the settings from the environment and then from the flags of a command line, for programs that are one command.
// It returns the other arguments too. add registers further flags; it may be nil.
func LoadSettings(name string, args []string, env Environment, add func(*pflag.FlagSet)) (Settings, []string, error) {
	var s Settings
	rest, err := parse(name, args, env, add, &s)
	if err != nil {
		return Settings{}, nil, err
	}
	return s, rest, s.Validate()
}

// maxSeconds is ten years; a larger value was most likely meant in another unit, and might overflow as a duration.
const maxSeconds = 10 * 365 * 24 * 3600

// Validate checks what the settings say of themselves. An error names the setting.
func (s Settings) Validate() error {
	for name, value := range map[string]int{
		"maxBodyBytes": s.MaxBodyBytes, "maxParallel": s.MaxParallel,
		"maxSignatureAttempts": s.MaxSignatureAttempts, "maxReferrers": s.MaxReferrers, "maxPlatforms": s.MaxPlatforms,
		"maxRequests": s.MaxRequests, "maxVerifications": s.MaxVerifications,
		"maxRegistryRequests": s.MaxRegistryRequests, "maxBackground": s.MaxBackground,
	} {
		if value < 1 {
			return fmt.Errorf("%s is %d; it must be at least 1", name, value)
		}
	}
	for name, value := range map[string]int{"cacheTTLDurationSeconds": s.CacheTTL, "cacheMaxSize": s.CacheMaxSize, "maxQueued": s.MaxQueued, "prewarm": s.Prewarm, "tagCacheTTLDurationSeconds": s.TagCacheTTL,
		"decisionsInMemory": s.DecisionsInMemory, "recordKept": s.RecordKept} {
		if value < 0 || value > maxSeconds {
			return fmt.Errorf("%s is %d; it must be from 0 to %d", name, value, maxSeconds)
		}
	}
	for name, value := range map[string]time.Duration{"requestTimeout": s.RequestTimeout, "pluginTimeout": s.PluginTimeout, "drainTimeout": s.DrainTimeout, "sharedCacheWait": s.SharedCacheWait} {
		if value <= 0 {
			return fmt.Errorf("%s is %s; it must be more than 0", name, value)
		}
	}
	for name, value := range map[string]string{"tlsSecret": s.TLSSecret, "epochConfigMap": s.EpochConfigMap} {
		if value == "" {
			return fmt.Errorf("%s is empty; name the object", name) // an empty name would watch all objects
		}
	}
	if (s.TLSCertFile == "") != (s.TLSKeyFile == "") {
		return errors.New("tlsCertFile and tlsKeyFile go together; set both or none")
	}
	if s.SharedCache != "" {
		if _, err := sharedcache.ParseServer(s.SharedCache); err != nil {
			return err
		}
	}
	if s.DecisionLogMaxBytes < 0 {
		return errors.New("decisionLogMaxBytes is negative")
	}
	if s.DrainDelay < 0 {
		return errors.New("drainDelay is negative")
	}
	return nil
}
