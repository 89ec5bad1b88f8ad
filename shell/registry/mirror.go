package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// mirror is a registry that has what another one has.
type mirror struct {
	registry string // canonical
	prefix   string // of its repositories, before the names that they have at the origin; "" for none
}

// ParseMirrors reads entries such as "docker.io=mirror.example,cache.example/dockerhub", and lists of them that were split at the
// commas: what has no equals sign is another mirror of the registry before it.
func ParseMirrors(entries []string) (map[string][]string, error) {
	mirrors, origin := map[string][]string{}, ""
	for _, entry := range entries {
		named, rest, found := strings.Cut(strings.TrimSpace(entry), "=")
		if found {
			name, err := image.CanonicalRegistry(strings.TrimSpace(named))
			if err != nil {
				return nil, fmt.Errorf("registryMirrors: %w", err)
			}
			origin, named = name, rest
		}
		if origin == "" {
			return nil, fmt.Errorf("registryMirrors: %q names no registry that it mirrors; write host=mirror", reason.Clip(entry, reason.MaxName))
		}
		for name := range strings.SplitSeq(named, ",") {
			name = strings.TrimSpace(name)
			if _, err := parseMirror(name); err != nil {
				return nil, fmt.Errorf("registryMirrors: %q is no mirror of %s: %w", reason.Clip(name, reason.MaxName), origin, err)
			}
			mirrors[origin] = append(mirrors[origin], name)
		}
	}
	return mirrors, nil
}

// parseMirror reads the name of a mirror: a host, and after a slash what its repositories begin with.
func parseMirror(name string) (mirror, error) {
	host, prefix, found := strings.Cut(name, "/")
	registry, err := image.CanonicalRegistry(host)
	if err != nil || !found {
		return mirror{registry: registry}, err
	}
	ref, err := image.Parse(registry + "/" + prefix)
	if err != nil || ref.Repository != prefix || ref.Digest != "" || strings.Contains(prefix, ":") {
		return mirror{}, fmt.Errorf("%q is not the beginning of repositories", reason.Clip(prefix, reason.MaxName))
	}
	return mirror{registry, prefix}, nil
}

// mirrorsOf reads all mirrors of the options.
func mirrorsOf(named map[string][]string) (map[string][]mirror, error) {
	mirrors := map[string][]mirror{}
	for origin, names := range named {
		canonical, err := image.CanonicalRegistry(origin)
		if err != nil {
			return nil, fmt.Errorf("registry mirrors: %w", err)
		}
		for _, name := range names {
			m, err := parseMirror(name)
			if err != nil {
				return nil, fmt.Errorf("registry mirrors: %w", err)
			}
			mirrors[canonical] = append(mirrors[canonical], m)
		}
	}
	return mirrors, nil
}

// Bounds on sources that do not answer.
const (
	mirrorTime = 3 * time.Second  // for one read of a source that is not the last
	downFor    = 15 * time.Second // for which a source that could not be reached is not asked, where there is another
)

// sources remembers which registries could not be reached lately.
type sources struct {
	mu   sync.Mutex
	down map[string]time.Time // until then; those of mirrors and of registries with mirrors, so there are few
}

func (s *sources) isDown(registry string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Before(s.down[registry])
}

func (s *sources) set(registry string, down bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if down {
		s.down[registry] = now.Add(downFor)
	} else {
		delete(s.down, registry)
	}
}

// sources gives where a repository can be read, in the order in which they are asked: its mirrors, and the registry itself.
func (r *Repository) sources() []*Repository {
	var all []*Repository
	for _, m := range r.client.mirrors[r.ref.Registry] {
		repository := r.ref.Repository
		if m.prefix != "" {
			repository = m.prefix + "/" + repository
		}
		all = append(all, &Repository{client: r.client, ref: image.Reference{Registry: m.registry, Repository: repository}, mirrors: r.ref.Registry})
	}
	return append(all, r)
}

// anywhere reads content that its digest names: from a mirror or from the registry itself, whichever has it, since the digest makes all
// of them equal. Whatever a mirror answers but that content, the next source is asked; what the registry itself says counts.
func anywhere[T any](ctx context.Context, r *Repository, read func(context.Context, *Repository) (T, error)) (T, error) {
	return first(ctx, r, r.sources(), read, func(T) bool { return true })
}

// authoritative reads what no digest vouches for: tags, and lists of what refers to a digest. That is the word of the registry itself,
// unless its mirrors were declared to be as good. What is not enough from a mirror is asked of the next source.
func authoritative[T any](ctx context.Context, r *Repository, read func(context.Context, *Repository) (T, error), enough func(T) bool) (T, error) {
	if !r.client.options.MirrorsResolve {
		return read(ctx, r)
	}
	return first(ctx, r, r.sources(), read, enough)
}

// first asks one source after the other. The last one is the registry itself, and has all the time that is left, unless a mirror answered with
// what was not enough: that is the answer where the registry fails.
func first[T any](ctx context.Context, r *Repository, sources []*Repository, read func(context.Context, *Repository) (T, error), enough func(T) bool) (found T, err error) {
	var lesser *T
	for i, source := range sources {
		last := i == len(sources)-1
		if (!last || lesser != nil) && r.client.unavailable(source.ref.Registry, time.Now()) {
			continue
		}
		limited, cancel := ctx, func() {}
		if !last || lesser != nil {
			limited, cancel = context.WithTimeout(context.WithValue(ctx, onceKey{}, true), mirrorTimeOf(ctx))
		}
		found, err = read(limited, source)
		cancel()
		if len(sources) > 1 && ctx.Err() == nil { // what was given up says nothing of the source
			r.client.sources.set(source.ref.Registry, unreachable(err), time.Now())
		}
		switch {
		case err == nil && (last || enough(found)):
			if !last {
				r.client.counts.mirrored.Add(1)
			}
			return found, nil
		case err == nil:
			lesser = new(T)
			*lesser = found
		case ctx.Err() != nil:
			return found, err
		}
	}
	if lesser != nil {
		return *lesser, nil
	}
	return found, err
}

// unavailable tells whether a source could not be reached lately, or wants no requests now.
func (c *Client) unavailable(registry string, now time.Time) bool {
	wait, _ := c.budgets.wait(registry, false, now)
	return wait > 0 || c.sources.isDown(registry, now)
}

// onceKey marks requests to a source after which there is another: they are not sent again.
type onceKey struct{}

// mirrorTimeOf leaves at least half of the time for the sources after a mirror.
func mirrorTimeOf(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(mirrorTime, time.Until(deadline)/2)
	}
	return mirrorTime
}

// unreachable tells whether a source did not answer at all, or not in time, or answers with errors of its own. One that wants no requests for
// a while is told by its budget.
func unreachable(err error) bool {
	var failed *Error
	var answered *errcode.ErrorResponse
	switch {
	case !errors.As(err, &failed) || errors.Is(err, errPaused):
		return false
	case errors.As(err, &answered):
		return answered.StatusCode >= http.StatusInternalServerError
	}
	return failed.Code == reason.RegistryUnavailable || failed.Code == reason.Timeout
}
