package function

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
	"github.com/nirmata/kyverno-notation-venafi/core/console"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/shell/kube"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// ConsoleSettings are the settings of the console, which the commands certmanager and console have.
type ConsoleSettings struct {
	Address   string   `flag:"consoleAddress" for:"console" env:"CONSOLE_ADDRESS" help:"Address of the console, such as :8090; on loopback where it names no host. Another host needs consoleUsers, tlsCertFile and tlsKeyFile. Empty for none in certmanager, and for :8090 in the command console."`
	Users     []string `flag:"consoleUsers" for:"console" env:"CONSOLE_USERS" help:"Users who may look at the console, comma-separated; * at the end stands for any rest. It tells of all namespaces. Empty for everyone who reaches it, on loopback only."`
	Audiences []string `flag:"consoleAudiences" for:"console" env:"CONSOLE_AUDIENCES" default:"kyverno-notation-venafi-console" help:"Audiences of which the token of such a user must name one, comma-separated."`
}

// ConsoleFields lists the settings of the console, for documentation.
func ConsoleFields() []*Field { return fieldsOf(&ConsoleSettings{}) }

// ConsoleSources are where the console's content comes from. Where one is nil its page shows the sentence beside it.
type ConsoleSources struct {
	Trust       func(context.Context) (shelltrust.Resources, []shelltrust.Problem, error)
	Decisions   ConsoleDecisions
	NoDecisions string
	Running     func(context.Context) (ConsoleReports, error)
	NoRunning   string
}

// ConsoleDecisions has records of decisions.
type ConsoleDecisions interface {
	// Recent gives the heads of the records that there are, in any order, and a sentence about where they come from.
	Recent(context.Context) (decisions []console.Decision, from string, err error)
	// Find gives the record of an id; ErrNoDecision where there is none.
	Find(ctx context.Context, id string) (record.Record, error)
}

// ErrNoDecision is that there is no record of an id.
var ErrNoDecision = errors.New("there is no record of that decision")

// ConsoleReports are the reports that an auditor wrote.
type ConsoleReports struct {
	Reports []auditor.Report
	From    string // a sentence about where they come from
}

// Bounds of the console.
const (
	consoleAddress  = "127.0.0.1:8090"
	consoleTimeout  = 20 * time.Second // for one page
	consoleKeep     = 5 * time.Second  // for which what a source gave is shown again
	consoleRequests = 16               // at once; others are refused
)

// Console serves pages for a browser that tell of trust, decisions and what runs. It reads and never writes. Make one with
// NewConsole.
type Console struct {
	sources   ConsoleSources
	readers   CallerReview // nil lets in everyone who names a loopback host
	trust     held[trustView]
	decisions held[decisionsView]
	running   held[runningView]
	serving   *serving // nil without TLS
	watch     func(context.Context)
	address   string
	seats     chan struct{}
	log       *slog.Logger
}

// NewConsole checks the settings and prepares; Listen and Serve do the work. readers reviews the tokens of consoleUsers.
func NewConsole(settings Settings, own ConsoleSettings, sources ConsoleSources, readers func(audiences, users []string) (CallerReview, error), log *slog.Logger) (*Console, error) {
	c := &Console{sources: sources, seats: make(chan struct{}, consoleRequests), log: log, watch: func(context.Context) {}}
	c.trust, c.decisions, c.running = newHeld(c.readTrust), newHeld(c.readDecisions), newHeld(c.readRunning)
	var err error
	host, port, err := net.SplitHostPort(cmp.Or(own.Address, consoleAddress))
	if err != nil {
		return nil, fmt.Errorf("consoleAddress: %w", err)
	}
	c.address = net.JoinHostPort(cmp.Or(host, "127.0.0.1"), port)
	if settings.TLSCertFile != "" {
		if c.serving, err = newServing("", log); err != nil {
			return nil, err
		}
		if c.watch, err = fromCertificateFiles(settings)(c.serving); err != nil {
			return nil, err
		}
	}
	if len(own.Users) > 0 {
		if c.readers, err = readers(own.Audiences, own.Users); err != nil {
			return nil, fmt.Errorf("consoleUsers: %w", err)
		}
	}
	if host != "" && !loopbackHost(host) && (c.readers == nil || c.serving == nil) {
		return nil, fmt.Errorf("consoleAddress is %q, which others reach: name who may look in consoleUsers, and tlsCertFile and tlsKeyFile, since their tokens pass there", own.Address)
	}
	return c, nil
}

// Listen opens the console's address.
func (c *Console) Listen() (net.Listener, error) {
	listener, err := net.Listen("tcp", c.address)
	if err != nil {
		return nil, fmt.Errorf("consoleAddress: %w", err)
	}
	if c.serving != nil {
		listener = tls.NewListener(listener, c.serving.config())
	}
	return listener, nil
}

// Address is where a browser finds the console.
func (c *Console) Address(listener net.Listener) string {
	scheme := "http"
	if c.serving != nil {
		scheme = "https"
	}
	return scheme + "://" + listener.Addr().String() + "/"
}

// Serve answers on a listener until ctx ends.
func (c *Console) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: c.Handler(), ReadTimeout: 5 * time.Second, WriteTimeout: consoleTimeout + 10*time.Second, IdleTimeout: 30 * time.Second,
		MaxHeaderBytes: 32 << 10, ErrorLog: slog.NewLogLogger(c.log.Handler(), slog.LevelWarn),
	}
	c.log.Info("serving the console", "address", listener.Addr().String())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		c.watch(ctx)
	}()
	defer func() { cancel(); <-watched }()
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("console on %s: %w", listener.Addr(), err)
	}
	return nil
}

// consoleFiles are the style and the icon.
//
//go:embed console/console.css console/icon.svg
var consoleFiles embed.FS

// Handler answers the console's pages.
func (c *Console) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", c.page("overview", c.overview))
	mux.HandleFunc("GET /policies", c.page("policies", c.policies))
	mux.HandleFunc("GET /stores", c.page("stores", c.stores))
	mux.HandleFunc("GET /decisions", c.page("decisions", c.recent))
	mux.HandleFunc("GET /decisions/{id}", c.page("decision", c.one))
	mux.HandleFunc("GET /running", c.page("running", c.runs))
	mux.HandleFunc("GET /console.css", consoleFile("console.css", "text/css; charset=utf-8"))
	mux.HandleFunc("GET /icon.svg", consoleFile("icon.svg", "image/svg+xml"))
	mux.HandleFunc("GET /", c.page("error", func(*http.Request, *view) error {
		return &pageError{http.StatusNotFound, "There is no such page."}
	}))
	return c.guarded(mux)
}

func consoleFile(name, kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		content, err := consoleFiles.ReadFile("console/" + name)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", kind)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

// consoleHeaders forbid a browser all that the pages do not need: scripts, frames, other hosts, and telling those of this one.
var consoleHeaders = map[string]string{
	"Content-Security-Policy":      "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Cache-Control":                "no-store",
}

// guarded lets in whom the settings name. Where they name nobody, a request must name a loopback host: a name that another site has
// point at this machine does not show that site the pages.
func (c *Console) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range consoleHeaders {
			w.Header().Set(name, value)
		}
		ctx, cancel := context.WithTimeout(r.Context(), consoleTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		if err := c.mayLook(r); err != nil {
			status := statusOfError(err)
			if status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Basic realm="the password is a token of the cluster", charset="UTF-8"`)
			}
			sendText(w, status, err.Error())
			return
		}
		select {
		case c.seats <- struct{}{}:
			defer func() { <-c.seats }()
		default:
			adviseRetry(w, http.StatusServiceUnavailable)
			sendText(w, http.StatusServiceUnavailable, "too many pages are asked for at once; try again")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// errOtherHost refuses a request that names another host than this machine.
var errOtherHost = fmt.Errorf("%w: the console is looked at as localhost or 127.0.0.1", kube.ErrForbidden)

// mayLook says why a request may not have a page; nil where it may. The token may come as the password of HTTP's Basic
// authentication, for which browsers have a form.
func (c *Console) mayLook(r *http.Request) error {
	if c.readers != nil {
		authorization := r.Header.Get("Authorization")
		if _, password, ok := r.BasicAuth(); ok {
			authorization = "Bearer " + password
		}
		_, err := c.readers.Review(r.Context(), authorization)
		return err
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(r.Host); err == nil {
		host = name
	}
	if !loopbackHost(strings.Trim(host, "[]")) {
		return errOtherHost
	}
	return nil
}

// loopbackHost tells a name or address of this machine itself.
func loopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

// held keeps what a source gave for a few seconds, and asks it once at a time.
type held[T any] struct {
	ask  func(context.Context) T
	turn chan struct{} // has room for one
	kept *heldValue[T]
}

type heldValue[T any] struct {
	at    time.Time
	value T
}

func newHeld[T any](ask func(context.Context) T) held[T] {
	return held[T]{ask, make(chan struct{}, 1), new(heldValue[T])}
}

// get gives what the source gave last, or asks it. It fails where time runs out.
func (h held[T]) get(ctx context.Context) (value T, err error) {
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return value, ctx.Err()
	}
	if !h.kept.at.IsZero() && time.Since(h.kept.at) < consoleKeep {
		return h.kept.value, nil
	}
	value = h.ask(ctx)
	if ctx.Err() != nil {
		return value, ctx.Err()
	}
	*h.kept = heldValue[T]{time.Now(), value}
	return value, nil
}
