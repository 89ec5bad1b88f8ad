package function

// Inspected is closed when the service has read the metadata of its plugins, for tests that wait until it is ready.
func (f *Function) Inspected() <-chan struct{} { return f.inspected }
