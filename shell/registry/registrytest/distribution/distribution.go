// Package distribution gives the registry of the CNCF distribution project as
// a handler for registrytest. It has no referrers API: clients keep
// referrers under the fallback tag "sha256-<hex>" with it. It is a package of
// its own because it brings hundreds of others along.
// https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#unavailable-referrers-api
package distribution

import (
	"context"
	"net/http"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory" // the storage driver named below
	"github.com/sirupsen/logrus"
)

// New returns an empty registry that keeps its content in memory until ctx
// ends. It writes no log, which can only be told to the whole process, because
// distribution logs to the standard logger of logrus. One goroutine of each
// handler stays for ever: distribution never closes its event broadcaster
// (github.com/docker/go-events.(*Broadcaster).run).
func New(ctx context.Context) http.Handler {
	logrus.SetLevel(logrus.PanicLevel)
	config := &configuration.Configuration{
		Storage: configuration.Storage{
			"inmemory": configuration.Parameters{},
			"delete":   configuration.Parameters{"enabled": true},
			"maintenance": configuration.Parameters{
				"uploadpurging": map[any]any{"enabled": false},
			},
		},
	}
	config.HTTP.Secret = "of no use to one process"
	config.Log.AccessLog.Disabled = true
	return handlers.NewApp(ctx, config)
}
