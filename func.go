// Package function is what the Knative func tooling builds: New gives the service as a function that is served
// by the generated main. Everything is in the package of the same name below; this is the shim that
// `func build` looks for.
package function

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"

	"github.com/nirmata/kyverno-notation-venafi/function"
)

// Function is the service as the func runtime wants it: its health questions are asked through Ready and
// Alive, since the runtime keeps the paths /health/readiness and /health/liveness for itself.
type Function struct {
	service *function.Function
	handler http.Handler
	err     error // why the service could not be made

	stop   context.CancelFunc // ends serving over TLS; nil before Start
	served chan error         // what that came to
	failed atomic.Pointer[error]
}

// New makes the function from the environment. What is wrong with the settings is told by Ready and Start,
// because the func runtime takes no error here.
func New() *Function {
	service, err := newService()
	if err != nil {
		return &Function{err: err}
	}
	return &Function{service: service, handler: service.Handler()}
}

func newService() (*function.Function, error) {
	settings, _, err := function.LoadSettings("function", nil, os.LookupEnv, nil)
	if err != nil {
		return nil, err
	}
	log, err := function.NewLogger(settings, os.Stderr)
	if err != nil {
		return nil, err
	}
	return function.New(settings, os.LookupEnv, log)
}

// Handle answers a request.
func (f *Function) Handle(w http.ResponseWriter, r *http.Request) {
	if f.err != nil {
		http.Error(w, "the service is not set up: "+f.err.Error(), http.StatusServiceUnavailable)
		return
	}
	f.handler.ServeHTTP(w, r)
}

// Start begins to watch trust and to serve over TLS; plain HTTP is the runtime's. The runtime calls it once, beside
// serving.
func (f *Function) Start(ctx context.Context, _ map[string]string) error {
	if f.err != nil {
		return fmt.Errorf("settings: %w", f.err)
	}
	listeners, err := f.service.ListenTLS()
	if err != nil {
		f.service.Stop() // there will be nothing for Stop to end
		return err
	}
	f.service.Start(ctx)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx)) // Stop drains, and then it ends
	f.stop, f.served = stop, make(chan error, 1)
	go func() {
		err := f.service.Serve(serving, listeners...)
		if err != nil && serving.Err() == nil {
			f.failed.Store(&err) // TLS is not served any longer, and nobody has asked for that
		}
		f.served <- err
	}()
	return nil
}

// Stop drains, and ends what Start began.
func (f *Function) Stop(context.Context) error {
	if f.stop == nil {
		return nil
	}
	f.stop()
	err := <-f.served
	f.service.Stop()
	return err
}

// Ready tells whether requests can be answered.
func (f *Function) Ready(context.Context) (bool, error) {
	if f.err != nil {
		return false, f.err
	}
	if err := f.service.Ready(); err != nil {
		return false, err
	}
	return true, nil
}

// Alive tells that the process works: that TLS is served, if it ever was.
func (f *Function) Alive(context.Context) (bool, error) {
	if err := f.failed.Load(); err != nil {
		return false, *err
	}
	return true, nil
}
