package function

import "crypto/tls"

// Inspected is closed when the service has read the metadata of its plugins, for tests that wait until it is ready.
func (f *Function) Inspected() <-chan struct{} { return f.inspected }

// TLSConfig is a new copy of what the service serves with.
func (f *Function) TLSConfig() *tls.Config { return f.serving.config() }
