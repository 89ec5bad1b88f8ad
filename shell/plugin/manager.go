// Package plugin runs Notation verification plugins as processes (Notary Project, plugin extensibility specification).
//
// A call goes through these steps:
//
//  1. [Manager.Get] locates the plugin's file by the name that the signature gives.
//  2. GetMetadata asks what the plugin is, once for as long as its file stays the same.
//  3. VerifySignature runs one process: unless the plugin's circuit is open, it waits for a seat, starts the process in a
//     sandbox ([sandbox.Start]), and reads its answer within a deadline and bounds on its output. Then all that it started is killed.
//
// A failure is an [Error], which says whether the signature, the plugin or the caller is to blame.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/notaryproject/notation-plugin-framework-go/plugin"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/shell/fair"
	"github.com/nirmata/kyverno-notation-venafi/shell/flight"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/sandbox"
)

// Options of a Manager.
type Options struct {
	Dir          string        // plugins are Dir/<name>/notation-<name>
	Config       Config        // given to every plugin; nil for none
	Timeout      time.Duration // of one process
	Env          []string      // environment of the processes, "NAME=value"
	MaxProcesses int           // that run at once; 0 is two for each CPU
	Pause        time.Duration // for which an open circuit starts no process; 0 is 5 seconds
	Verifiers    []Verifier    // versions that verify without declaring it, beside the known ones
	X5UHosts     []string      // hosts of signing platforms beside that of the configuration, as trust.PlatformHost gives them
	Sandbox      sandbox.Mode  // how processes are confined; the zero value is as well as the kernel can
	Reach        Reach         // beside their own folder and configuration
}

// Config gives the plugin configuration of this moment. Nobody changes the map.
type Config func() map[string]string

// Manager finds and runs plugins. It implements notation-go's plugin.Manager.
type Manager struct {
	options   Options
	env       []string
	processes *fair.Limiter
	counts    counts
	circuits  *circuits
	contents  contents
	lookups   flight.Group[string, lookedUp] // of metadata, by name and file
	mu        sync.Mutex
	metadata  map[string]cachedMetadata // by plugin name
}

// cachedMetadata is what a plugin's file said of itself.
type cachedMetadata struct {
	file     identity
	metadata plugin.GetMetadataResponse
}

// Error is a failure to have a plugin verify a signature, with its code.
type Error struct {
	Code  reason.Code
	Text  string
	cause error
	blame blame
	open  bool // the circuit was open, so no process was started
}

// Error is one sentence for a person.
func (e *Error) Error() string { return e.Text }

// Unwrap gives the cause, if there is one.
func (e *Error) Unwrap() error { return e.cause }

// Refusal tells whether the plugin did its work and refused the signature by an error of the protocol.
func (e *Error) Refusal() bool { return e.blame == blameSignature && e.Code != reason.PluginMissing }

// NewManager makes a manager. Where the directory does not exist, no plugin is installed.
func NewManager(options Options) *Manager {
	if options.Pause <= 0 {
		options.Pause = defaultPause
	}
	if options.MaxProcesses < 1 {
		options.MaxProcesses = max(2, 2*runtime.GOMAXPROCS(0))
	}
	return &Manager{
		options: options, env: environment(options.Env),
		processes: fair.NewLimiter(options.MaxProcesses), circuits: newCircuits(options.Pause),
		lookups:  flight.Group[string, lookedUp]{Timeout: options.Timeout, GoesOn: true},
		metadata: map[string]cachedMetadata{},
	}
}

// defaultPause is long enough to avoid most processes of a plugin that hangs, and short enough to go unnoticed when it has
// recovered.
const defaultPause = 5 * time.Second

// environment is the environment of the processes. It is never nil, since a nil one would inherit the service's. A plugin
// written in Go, whose processes each do one thing, measurably costs less on one CPU.
func environment(given []string) []string {
	env := append([]string{}, given...)
	if !slices.ContainsFunc(env, func(s string) bool { return strings.HasPrefix(s, "GOMAXPROCS=") }) {
		env = append(env, "GOMAXPROCS=1")
	}
	return env
}

// pluginName matches allowed names. A signature chooses the name, and it becomes part of a path.
var pluginName = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]*$`)

// Get finds an installed plugin. The error is an [Error] with reason.PluginMissing where there is none.
func (m *Manager) Get(_ context.Context, name string) (plugin.Plugin, error) {
	path, file, err := m.locate(name)
	if err != nil {
		return nil, err
	}
	return &process{manager: m, name: name, path: path, file: file}, nil
}

func (m *Manager) locate(name string) (string, identity, error) {
	if !pluginName.MatchString(name) {
		return "", identity{}, &Error{Code: reason.PluginMissing, Text: fmt.Sprintf("the signature names the plugin %q, which is no plugin's name", name)}
	}
	path := filepath.Join(m.options.Dir, name, "notation-"+name)
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return "", identity{}, &Error{
			Code: reason.PluginMissing, cause: err,
			Text: fmt.Sprintf("the signature demands the verification plugin %q, which is not installed; put its executable at %s", name, filepath.Join("<pluginDir>", name, "notation-"+name)),
		}
	}
	return path, identify(info), nil
}

// Config gives the plugin configuration of this moment.
func (m *Manager) Config() map[string]string {
	if m.options.Config == nil {
		return nil
	}
	return m.options.Config()
}

// secretKey matches the keys of the plugin configuration whose values look secret.
var secretKey = regexp.MustCompile(`(?i)token|secret|passw|credential|key`)

// redacted is what a plugin said without tokens and without the secrets of its configuration.
func (m *Manager) redacted(text string) string {
	const shortest = 4 // bytes; a shorter value stands in many other words
	for key, value := range m.Config() {
		if len(value) >= shortest && secretKey.MatchString(key) {
			text = strings.ReplaceAll(text, value, "***")
		}
	}
	return reason.WithoutTokens(text)
}

// List gives the names of the installed plugins, sorted.
func (m *Manager) List(context.Context) ([]string, error) {
	entries, err := os.ReadDir(m.options.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("plugin directory: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if _, _, err := m.locate(entry.Name()); err == nil {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// Inspection is the metadata that a plugin declares.
type Inspection struct {
	Name, Version string
	Capable       bool  // the plugin declares a capability to verify signatures
	Err           error // why the metadata could not be had; nil when it could
}

// Inspect asks every installed plugin for its metadata, so that the first request does not have to.
func (m *Manager) Inspect(ctx context.Context) ([]Inspection, error) {
	names, err := m.List(ctx)
	if err != nil {
		return nil, err
	}
	inspections := make([]Inspection, 0, len(names))
	for _, name := range names {
		metadata, err := (&process{manager: m, name: name}).GetMetadata(ctx, &plugin.GetMetadataRequest{})
		inspection := Inspection{Name: name, Err: err}
		if err == nil {
			inspection.Version, inspection.Capable = metadata.Version, Verifies(metadata)
		}
		inspections = append(inspections, inspection)
	}
	return inspections, nil
}

// Verifies tells whether a plugin declares a capability to verify signatures.
func Verifies(metadata *plugin.GetMetadataResponse) bool {
	return slices.ContainsFunc(metadata.Capabilities, func(c plugin.Capability) bool {
		return c == plugin.CapabilityTrustedIdentityVerifier || c == plugin.CapabilityRevocationCheckVerifier
	})
}

func (m *Manager) recall(name string, file identity) (plugin.GetMetadataResponse, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.metadata[name]
	return known.metadata, ok && known.file == file
}

func (m *Manager) remember(name string, file identity, metadata plugin.GetMetadataResponse) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.metadata[name] = cachedMetadata{file, metadata}
}
