package release

import (
	"log/slog"
	"net/http/httptest"
	"strings"

	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
)

// Registry is a registry on a loopback port that keeps all in memory.
type Registry struct {
	store  *olareg.Server
	server *httptest.Server
}

// Serve starts a registry. It panics where there is no free port, as httptest does.
func Serve() *Registry {
	store := olareg.New(config.Config{
		Storage: config.ConfigStorage{StoreType: config.StoreMem, GC: config.ConfigGC{Frequency: -1}},
		Log:     slog.New(slog.DiscardHandler),
	})
	return &Registry{store: store, server: httptest.NewServer(store)}
}

// Target names repositories in the registry.
func (r *Registry) Target() Target {
	host := strings.TrimPrefix(r.server.URL, "http://")
	return Target{Repository: host + "/nirmata/kyverno-notation-venafi", ChartRepository: host + "/nirmata/charts/kyverno-notation-venafi", PlainHTTP: true}
}

// Close stops it.
func (r *Registry) Close() {
	r.server.Close()
	_ = r.store.Close() // which keeps nothing
}
