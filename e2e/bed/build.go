package bed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// packagePath is this package; tools/ lies beside its folder, whichever module that belongs to.
const packagePath = "github.com/nirmata/kyverno-notation-venafi/e2e/bed"

const (
	buildTime = 40 * time.Minute // for all parts, cold, on two slow cores
	lockTime  = 45 * time.Minute // for another run that builds

	kyvernoModule   = "github.com/kyverno/kyverno"
	kyvernoManifest = "config/install-latest-testing.yaml" // inside kyvernoModule
)

// Tools are the paths of the programs that a bed runs. Those of Kyverno are empty without Options.Kyverno.
type Tools struct {
	Etcd, APIServer, Kubectl string
	Kyverno, KyvernoManifest string
}

// DefaultCacheDir is where built programs are kept, outside of any working tree:
// $XDG_CACHE_HOME/kyverno-notation-venafi/e2e, or the same below ~/.cache.
func DefaultCacheDir() (string, error) {
	base := os.Getenv("XDG_CACHE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("cache directory: %w", err)
		}
		base = filepath.Join(home, ".cache")
	}
	return filepath.Join(base, "kyverno-notation-venafi", "e2e"), nil
}

// Build returns the programs, building those that the cache does not hold. The cache is keyed by the go.mod and go.sum
// of the module that pins a program, so a new version never meets an old binary. Only one process builds at a time.
func Build(ctx context.Context, opts Options) (Tools, error) {
	b, err := newBuilder(ctx, opts)
	if err != nil {
		return Tools{}, err
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return Tools{}, err
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	tools := Tools{}
	steps := []buildStep{{&tools.Etcd, b.etcd}, {&tools.APIServer, b.apiServer}, {&tools.Kubectl, b.kubectl}}
	if opts.Kyverno {
		steps = append(steps, buildStep{&tools.Kyverno, b.kyverno}, buildStep{&tools.KyvernoManifest, b.manifest})
	}
	for _, step := range steps {
		if *step.path, err = step.make(ctx); err != nil {
			return Tools{}, err
		}
	}
	return tools, nil
}

type buildStep struct {
	path *string
	make func(context.Context) (string, error)
}

type builder struct {
	tools, cache string // directories
	log          io.Writer
}

func newBuilder(ctx context.Context, opts Options) (builder, error) {
	b := builder{tools: opts.ToolsDir, cache: opts.CacheDir, log: opts.log()}
	if b.tools == "" {
		out, err := goCommand(ctx, ".", "list", "-f", "{{.Dir}}", packagePath)
		if err != nil {
			return builder{}, fmt.Errorf("find the pinned tools (run where %s is known or set ToolsDir): %w", packagePath, err)
		}
		b.tools = filepath.Join(filepath.Dir(strings.TrimSpace(string(out))), "tools")
	}
	if b.cache == "" {
		cache, err := DefaultCacheDir()
		if err != nil {
			return builder{}, err
		}
		b.cache = cache
	}
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return builder{}, fmt.Errorf("cache directory: %w", err)
	}
	return b, nil
}

// lock waits until this process is the only one that builds. The kernel gives the lock back if the process dies.
func (b builder) lock(ctx context.Context) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(b.cache, "build.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("build lock: %w", err)
	}
	told := false
	err = poll(ctx, lockTime, "build lock "+file.Name(), func(context.Context) error {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != nil && !told {
			told = true
			fmt.Fprintln(b.log, "bed: another run is building, waiting for it")
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { _ = file.Close() }, nil
}

func (b builder) etcd(ctx context.Context) (string, error) {
	return b.program(ctx, "etcd", "go.etcd.io/etcd/server/v3")
}

func (b builder) apiServer(ctx context.Context) (string, error) {
	return b.kubernetes(ctx, "kube-apiserver")
}

// kubectl prefers the machine's own, which any supported version can stand in for.
func (b builder) kubectl(ctx context.Context) (string, error) {
	if path, err := exec.LookPath("kubectl"); err == nil {
		return path, nil
	}
	return b.kubernetes(ctx, "kubectl")
}

func (b builder) kyverno(ctx context.Context) (string, error) {
	return b.program(ctx, "kyverno", kyvernoModule+"/cmd/kyverno")
}

// kubernetes builds a program that tells its version to others only if the linker is told.
func (b builder) kubernetes(ctx context.Context, name string) (string, error) {
	return b.cached("kubernetes", name, func(dir, path string) error {
		out, err := goCommand(ctx, dir, "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
		if err != nil {
			return err
		}
		version := strings.TrimSpace(string(out))
		part := strings.Split(strings.TrimPrefix(version, "v"), ".")
		if len(part) < 3 {
			return fmt.Errorf("version %q is not a release", version)
		}
		const set = "-X k8s.io/component-base/version."
		return b.compile(ctx, dir, path, name, "k8s.io/kubernetes/cmd/"+name,
			set+"gitVersion="+version, set+"gitMajor="+part[0], set+"gitMinor="+part[1])
	})
}

// program builds one main package of the module tools/<name>.
func (b builder) program(ctx context.Context, name, pkg string) (string, error) {
	return b.cached(name, name, func(dir, path string) error {
		return b.compile(ctx, dir, path, name, pkg)
	})
}

func (b builder) compile(ctx context.Context, dir, path, name, pkg string, ldflags ...string) error {
	fmt.Fprintf(b.log, "bed: building %s\n", name)
	began := time.Now()
	_, err := goCommand(ctx, dir, "build", "-trimpath", "-buildvcs=false", "-mod=readonly",
		"-ldflags", strings.Join(append(ldflags, "-s", "-w"), " "), "-o", path, pkg)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.log, "bed: built %s in %s\n", name, time.Since(began).Round(time.Second))
	return nil
}

// manifest keeps Kyverno's install manifest beside its binary, so that a start does not need the module cache.
func (b builder) manifest(ctx context.Context) (string, error) {
	return b.cached("kyverno", "install.yaml", func(dir, path string) error {
		out, err := goCommand(ctx, dir, "mod", "download", "-json", kyvernoModule)
		if err != nil {
			return err
		}
		module := struct{ Dir string }{}
		if err := json.Unmarshal(out, &module); err != nil {
			return fmt.Errorf("answer of go mod download: %w", err)
		}
		data, err := os.ReadFile(filepath.Join(module.Dir, kyvernoManifest))
		if err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o644)
	})
}

// cached returns the path of a file below <cache>/<hash of the module>/. A missing one is made under another name and
// then renamed, so that an interrupted build leaves nothing that looks whole.
func (b builder) cached(module, name string, build func(moduleDir, path string) error) (string, error) {
	dir := filepath.Join(b.tools, module)
	hash, err := moduleHash(dir)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	path := filepath.Join(b.cache, hash, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	unfinished := path + ".unfinished" // never two at once: the caller holds the lock
	if err := build(dir, unfinished); err != nil {
		return "", fmt.Errorf("build %s: %w", name, errors.Join(err, os.RemoveAll(unfinished)))
	}
	if err := os.Rename(unfinished, path); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	return path, nil
}

func moduleHash(dir string) (string, error) {
	hash := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s %d\n%s", name, len(data), data)
	}
	return hex.EncodeToString(hash.Sum(nil))[:16], nil
}

// goCommand runs the go command in a module's directory, outside of any workspace.
func goCommand(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	cmd.WaitDelay = 10 * time.Second
	stderr := bytes.Buffer{}
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}
