package sharedcache

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/nirmata/kyverno-notation-venafi/shell/egress"
)

// RedisOptions say how a server is connected to.
type RedisOptions struct {
	Server
	PasswordFile string      // read for each connection, so that it can be replaced; "" for no password
	CAFile       string      // PEM of the CAs for TLS; "" for the system's
	Egress       egress.Rule // for addresses that the server itself names, as sentinels and clusters do
}

// Bounds on connections.
const (
	maxConnections = 16          // to each server, of which each is used a fraction of a millisecond
	callTimeout    = time.Second // of a connection or a call; what verifications wait for has less
	idleTime       = 5 * time.Minute
	maxPassword    = 4 << 10 // bytes
)

// Redis is a server of the Redis protocol. Close it in the end.
type Redis struct {
	client redis.UniversalClient
}

// OpenRedis prepares connections; none is made before the first use.
func OpenRedis(options RedisOptions) (*Redis, error) {
	dialer := &guardedDialer{server: options.Server, egress: options.Egress}
	if options.TLS {
		dialer.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		if options.CAFile != "" {
			pem, err := os.ReadFile(options.CAFile)
			if err != nil {
				return nil, fmt.Errorf("sharedCacheCAFile: %w", err)
			}
			dialer.tls.RootCAs = x509.NewCertPool()
			if !dialer.tls.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("sharedCacheCAFile: %s has no certificate", options.CAFile)
			}
		}
	}
	if _, err := options.password(); err != nil {
		return nil, err
	}
	redis.SetLogger(&logging.VoidLogger{}) // failures are counted and logged here
	return &Redis{client: options.open(dialer.dial)}, nil
}

// open makes the client for the kind of server.
func (o RedisOptions) open(dial func(context.Context, string, string) (net.Conn, error)) redis.UniversalClient {
	credentials := func(context.Context) (string, string, error) {
		password, err := o.password()
		return o.User, password, err
	}
	if o.PasswordFile == "" {
		credentials = nil
	}
	universal := &redis.UniversalOptions{
		Addrs: o.Addresses, DB: o.Database, Username: o.User, CredentialsProviderContext: credentials,
		Dialer: dial, DialTimeout: callTimeout, DialerRetries: 1, ReadTimeout: callTimeout, WriteTimeout: callTimeout, ContextTimeoutEnabled: true,
		MaxRetries: -1, MaxRedirects: 1, Protocol: 2, DisableIdentity: true, PipelinePoolSize: -1,
		PoolSize: maxConnections, MaxActiveConns: maxConnections, PoolTimeout: callTimeout, ConnMaxIdleTime: idleTime,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if o.Sentinel != "" {
		return redis.NewClient(o.throughSentinels(universal))
	}
	if o.Cluster {
		options := universal.Cluster()
		options.DisableRoutingPolicies = true // which would ask the server for its commands
		known := &cluster{}
		for _, address := range o.Addresses {
			known.options = append(known.options, peer(universal, address))
		}
		options.ClusterSlots = known.locate
		return redis.NewClusterClient(options)
	}
	return redis.NewClient(universal.Simple())
}

// throughSentinels makes the options of a server that sentinels name for each connection.
func (o RedisOptions) throughSentinels(universal *redis.UniversalOptions) *redis.Options {
	known := &sentinels{name: o.Sentinel, dial: universal.Dialer}
	for _, address := range o.Addresses {
		options := peer(universal, address)
		if !o.SentinelAuth {
			options.Username, options.CredentialsProviderContext = "", nil
		}
		known.options = append(known.options, options)
	}
	options := universal.Simple()
	options.Dialer = known.connect
	return options
}

// password reads the file, of which a line break at the end is no part.
func (o RedisOptions) password() (string, error) {
	if o.PasswordFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(o.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("sharedCachePasswordFile: %w", err)
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" || len(password) > maxPassword {
		return "", fmt.Errorf("sharedCachePasswordFile: %s has %d bytes; it must hold a password", o.PasswordFile, len(text))
	}
	return password, nil
}

// Close ends the connections.
func (r *Redis) Close() { _ = r.client.Close() } // nobody waits for an answer

// Connect makes some connections, so that the first who need one need not wait for it. What fails shows when one is needed.
func (r *Redis) Connect(ctx context.Context) {
	var connecting sync.WaitGroup
	for range maxConnections / 4 {
		connecting.Go(func() {
			_ = recovered(func() error { _, err := r.Get(ctx, "knv:none"); return err })
		})
	}
	connecting.Wait()
}

// Get is part of Store.
func (r *Redis) Get(ctx context.Context, name string) ([]byte, error) {
	value, err := r.client.Get(ctx, name).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return value, failure(ctx, err, false)
}

// Claim is part of Store.
func (r *Redis) Claim(ctx context.Context, entry, lease string, value []byte, life time.Duration) (found, held []byte, err error) {
	pipe := r.client.Pipeline()
	foundNow := pipe.Get(ctx, entry)
	pipe.SetNX(ctx, lease, value, life) //nolint:staticcheck // SET with NX and PX
	heldNow := pipe.Get(ctx, lease)
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, nil, failure(ctx, err, true)
	}
	found, _ = foundNow.Bytes() // nil for none: other errors were those of Exec
	held, _ = heldNow.Bytes()
	return found, held, nil
}

// Put is part of Store.
func (r *Redis) Put(ctx context.Context, entry string, value []byte, life time.Duration, lease string) error {
	pipe := r.client.Pipeline()
	if value != nil {
		pipe.Set(ctx, entry, value, max(life, time.Millisecond))
	}
	if lease != "" {
		pipe.Del(ctx, lease)
	}
	_, err := pipe.Exec(ctx)
	return failure(ctx, err, true)
}

// failure is an error of the client, clipped, since what the server says may be long, and told apart where it only takes no values.
func failure(ctx context.Context, err error, writes bool) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil { // the client wraps it in an error of its own
		return ctx.Err()
	}
	text := err.Error()
	for _, prefix := range []string{"OOM ", "MISCONF ", "READONLY ", "NOPERM ", "NOREPLICAS "} {
		if writes && strings.HasPrefix(text, prefix) {
			return fmt.Errorf("%w: %.300q", ErrReadOnly, text)
		}
	}
	return fmt.Errorf("shared cache: %.300q", text)
}

// guardedDialer connects to the server, and to addresses that the server names within a rule.
type guardedDialer struct {
	server Server
	egress egress.Rule
	tls    *tls.Config // nil for none
}

func (d *guardedDialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: callTimeout}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if !d.server.named(address) {
		if err := d.egress.CheckHost(host); err != nil {
			return nil, err
		}
		dialer.ControlContext = d.egress.Control
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil || d.tls == nil {
		return guarded(conn), err
	}
	config := d.tls.Clone()
	config.ServerName = host
	secure := tls.Client(conn, config)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the first error is what counts
		return nil, err
	}
	return guarded(secure), nil
}
