package function

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	core "github.com/nirmata/kyverno-notation-venafi/core/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/shell/egress"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry"
	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify"
)

// shared is the second level of the cache, which replicas share, with its connections.
type shared struct {
	*sharedcache.Cache
	redis *sharedcache.Redis
}

// newShared makes it, where the settings name a server; else it gives nil.
func newShared(settings Settings, keys func() core.Keyring, log *slog.Logger) (*shared, error) {
	if settings.SharedCache == "" || !settings.CacheEnabled {
		return nil, nil
	}
	if keys == nil {
		return nil, errors.New("sharedCache needs a key that seals what is shared: name sharedCacheKeyFile, or with a cluster sharedCacheKeySecret")
	}
	server, err := sharedcache.ParseServer(settings.SharedCache)
	if err != nil {
		return nil, err
	}
	redis, err := sharedcache.OpenRedis(sharedcache.RedisOptions{
		Server: server, PasswordFile: settings.SharedCachePasswordFile, CAFile: settings.SharedCacheCAFile, Egress: egress.Rule{AllowLoopback: settings.AllowLoopback},
	})
	if err != nil {
		return nil, err
	}
	log.Info("outcomes are shared", "addresses", server.Addresses, "tls", server.TLS, "sentinel", server.Sentinel, "cluster", server.Cluster)
	return &shared{redis: redis, Cache: sharedcache.New(sharedcache.Options{Store: redis, Keys: keys, Wait: settings.SharedCacheWait, Log: log})}, nil
}

// level is what the gatherer takes; nil for nothing.
func (s *shared) level() verify.SharedCache {
	if s == nil {
		return nil
	}
	return s.Cache
}

// pauses are what the registry client takes; nil for nothing.
func (s *shared) pauses() registry.Shared {
	if s == nil {
		return nil
	}
	return s.Pauses()
}

func (s *shared) close() {
	if s != nil {
		s.Cache.Close()
		s.redis.Close()
	}
}

// SharedKeys is the Secret with the key that seals what replicas share; "" where they share nothing, or have the key from a file.
func (s Settings) SharedKeys() string {
	if s.SharedCache == "" || s.SharedCacheKeyFile != "" {
		return ""
	}
	return s.SharedCacheKeySecret
}

// sharedGroups are the settings that outcomes may depend on, but for some: where plugins and credentials are. What plugins are is part
// of each lookup, and credentials only decide what can be read.
var sharedGroups, sharedBut = []string{"plugins", "registries", "verification"}, []string{"pluginDir", "dockerConfig"}

// surroundings tells what outcomes depend on beside their lookups: the program, the settings of how is verified, and the CAs of
// registries. Replicas that differ in these share nothing, so that what another version or another setting admitted is verified anew.
func surroundings(settings Settings) (string, error) {
	hash := sha256.New()
	program, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("sharedCache: the program cannot be told: %w", err)
	}
	for _, path := range []string{program, settings.RegistryCAFile} {
		if path == "" {
			continue
		}
		if err := addFile(hash, path); err != nil {
			return "", fmt.Errorf("sharedCache: %w", err)
		}
	}
	for _, field := range fieldsOf(&settings) {
		if slices.Contains(sharedGroups, field.Group) && !slices.Contains(sharedBut, field.Flag) {
			text := fmt.Sprint(field.value.Interface()) // of maps in the order of their keys
			fmt.Fprintf(hash, "%s %d:%s ", field.Flag, len(text), text)
		}
	}
	return fmt.Sprintf("%x", hash.Sum(nil)), nil
}

func addFile(to io.Writer, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(to, file)
	return err
}

// keyFile is a file with the key that seals what is shared, read again for changes.
type keyFile struct {
	path, surroundings string
	ring               atomic.Pointer[core.Keyring]
}

const (
	keyInterval = 10 * time.Second
	maxKeyFile  = 64 << 10 // bytes
)

// sharedKeyFile takes the key from a file, where the settings name one.
func (s *sources) sharedKeyFile(settings Settings, log *slog.Logger) error {
	if settings.SharedCache == "" || settings.SharedCacheKeyFile == "" {
		return nil
	}
	around, err := surroundings(settings)
	if err != nil {
		return err
	}
	file := &keyFile{path: settings.SharedCacheKeyFile, surroundings: around}
	if err := file.read(); err != nil {
		return err
	}
	s.sharedKey = func() core.Keyring { return *file.ring.Load() }
	s.watches = append(s.watches, func(ctx context.Context) { file.watch(ctx, log) })
	return nil
}

// read reads one key a line.
func (f *keyFile) read() error {
	file, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("sharedCacheKeyFile: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile))
	if err != nil {
		return fmt.Errorf("sharedCacheKeyFile: %w", err)
	}
	ring, err := core.NewKeyring(strings.Fields(string(text)), f.surroundings)
	if err != nil {
		return fmt.Errorf("sharedCacheKeyFile: %w", err)
	}
	f.ring.Store(&ring)
	return nil
}

// watch reads the file again until ctx ends. While it cannot be read, the last key stays.
func (f *keyFile) watch(ctx context.Context, log *slog.Logger) {
	ticker := time.NewTicker(keyInterval)
	defer ticker.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := f.read()
		if err != nil && !failed {
			log.Error("the key for the shared cache cannot be read again", "error", err)
		}
		failed = err != nil
	}
}
