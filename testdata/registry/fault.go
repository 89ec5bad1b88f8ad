package registry

import "net/http"

// Fault stands between the network and the registry: it answers a request
// itself, or hands it to next and changes the answer.
type Fault func(w http.ResponseWriter, r *http.Request, next http.Handler)
