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
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// packagePath is this package; tools/ lies beside its folder, whichever module that belongs to.
const packagePath = "github.com/nirmata/kyverno-notation-venafi/e2e/bed"

const (
	buildTime = 40 * time.Minute // for all parts, cold, on two slow cores
	lockTime  = 45 * time.Minute // for another run that builds

	kyvernoTool     = "kyverno" // the module below tools that pins it
	kyvernoModule   = "github.com/kyverno/kyverno"
	kyvernoManifest = "config/install-latest-testing.yaml" // inside kyvernoModule
)

// Tools are the paths of the programs that a bed runs. Those of Kyverno are empty without Options.Kyverno and Reports.
type Tools struct {
	Etcd, APIServer, Kubectl string
	Kyverno, KyvernoManifest string
	KyvernoReports           string
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
	b, err := NewBuilder(ctx, opts)
	if err != nil {
		return Tools{}, err
	}
	unlock, err := b.Lock(ctx)
	if err != nil {
		return Tools{}, err
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	tools := Tools{}
	steps := []buildStep{{&tools.Etcd, b.etcd}, {&tools.APIServer, b.apiServer}, {&tools.Kubectl, b.kubectl}}
	if opts.Kyverno {
		steps = append(steps, buildStep{&tools.Kyverno, b.kyverno}, buildStep{&tools.KyvernoManifest, b.KyvernoManifest})
	}
	if opts.Kyverno && opts.Reports {
		steps = append(steps, buildStep{&tools.KyvernoReports, b.kyvernoReports})
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

// Builder makes what the modules below e2e/tools pin, into the cache. Its caller holds Lock while it does.
type Builder struct {
	tools, cache string // directories
	kyvernoDir   string // directory of the module that pins Kyverno, if it is not below tools
	log          io.Writer
	env          []string // of the go command, added to the process's own
}

// NewBuilder uses ToolsDir, CacheDir and Log of the options, and the environment variable KyvernoVersion.
func NewBuilder(ctx context.Context, opts Options) (Builder, error) {
	b := Builder{tools: opts.ToolsDir, cache: opts.CacheDir, log: opts.log()}
	if b.tools == "" {
		out, err := goCommand(ctx, ".", nil, "list", "-f", "{{.Dir}}", packagePath)
		if err != nil {
			return Builder{}, fmt.Errorf("find the pinned tools (run where %s is known or set ToolsDir): %w", packagePath, err)
		}
		b.tools = filepath.Join(filepath.Dir(strings.TrimSpace(string(out))), "tools")
	}
	if b.cache == "" {
		cache, err := DefaultCacheDir()
		if err != nil {
			return Builder{}, err
		}
		b.cache = cache
	}
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return Builder{}, fmt.Errorf("cache directory: %w", err)
	}
	if err := b.useKyverno(ctx, os.Getenv(KyvernoVersion)); err != nil {
		return Builder{}, fmt.Errorf("version of Kyverno: %w", err)
	}
	return b, nil
}

// moduleDir is where a module of tools is.
func (b Builder) moduleDir(module string) string {
	if module == kyvernoTool && b.kyvernoDir != "" {
		return b.kyvernoDir
	}
	return filepath.Join(b.tools, module)
}

// Lock waits until this process is the only one that builds.
func (b Builder) Lock(ctx context.Context) (unlock func(), err error) {
	return LockFile(ctx, filepath.Join(b.cache, "build.lock"), b.log)
}

// LockFile waits until no other process has locked the file, for as long as a build may take. The kernel gives the lock
// back if the process dies.
func LockFile(ctx context.Context, path string, log io.Writer) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	told := false
	err = poll(ctx, lockTime, "lock "+path, func(context.Context) error {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != nil && !told {
			told = true
			fmt.Fprintln(log, "bed: another run has locked", path, "- waiting for it")
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { _ = file.Close() }, nil
}

func (b Builder) etcd(ctx context.Context) (string, error) {
	return b.program(ctx, "etcd", "go.etcd.io/etcd/server/v3")
}

func (b Builder) apiServer(ctx context.Context) (string, error) {
	return b.Kubernetes(ctx, "kube-apiserver")
}

// kubectl prefers the machine's own, which any supported version can stand in for.
func (b Builder) kubectl(ctx context.Context) (string, error) {
	if path, err := exec.LookPath("kubectl"); err == nil {
		return path, nil
	}
	return b.Kubernetes(ctx, "kubectl")
}

func (b Builder) kyverno(ctx context.Context) (string, error) {
	return b.program(ctx, kyvernoTool, kyvernoModule+"/cmd/kyverno")
}

func (b Builder) kyvernoReports(ctx context.Context) (string, error) {
	return b.Program(ctx, kyvernoTool, "kyverno-reports", kyvernoModule+"/cmd/reports-controller")
}

// Kubernetes builds a program of Kubernetes. It tells its version to others only if the linker is told.
func (b Builder) Kubernetes(ctx context.Context, name string) (string, error) {
	return b.File("kubernetes", name, func(dir, path string) error {
		out, err := goCommand(ctx, dir, nil, "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
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
func (b Builder) program(ctx context.Context, name, pkg string) (string, error) {
	return b.Program(ctx, name, name, pkg)
}

// Program builds one main package of the module tools/<module> under a name.
func (b Builder) Program(ctx context.Context, module, name, pkg string) (string, error) {
	return b.File(module, name, func(dir, path string) error {
		return b.compile(ctx, dir, path, name, pkg)
	})
}

// Static builds one main package of the module tools/<module> so that it runs in an image that holds nothing else.
func (b Builder) Static(ctx context.Context, module, name, pkg string) (string, error) {
	return b.File(module, name+"-static", func(dir, path string) error {
		return b.StaticIn(ctx, dir, path, name, pkg)
	})
}

// StaticIn is Static for a module that lies in dir, to a path of the caller's.
func (b Builder) StaticIn(ctx context.Context, dir, path, name, pkg string) error {
	b.env = append(slices.Clone(b.env), "CGO_ENABLED=0")
	return b.compile(ctx, dir, path, name, pkg)
}

// ModuleDir is where the module that tools/<module> requires lies, at the version that it pins, whatever replaces it.
func (b Builder) ModuleDir(ctx context.Context, module, path string) (string, error) {
	dir := b.moduleDir(module)
	out, err := goCommand(ctx, dir, nil, "list", "-m", "-f", "{{.Version}} {{with .Replace}}replaced{{end}}", path)
	if err != nil {
		return "", err
	}
	version, replaced, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if replaced != "" {
		dir = os.TempDir() // outside of the module: inside there is only what replaces it
	}
	out, err = goCommand(ctx, dir, nil, "mod", "download", "-json", path+"@"+version)
	if err != nil {
		return "", err
	}
	found := struct{ Dir string }{}
	if err := json.Unmarshal(out, &found); err != nil {
		return "", fmt.Errorf("answer of go mod download: %w", err)
	}
	return found.Dir, nil
}

func (b Builder) compile(ctx context.Context, dir, path, name, pkg string, ldflags ...string) error {
	fmt.Fprintf(b.log, "bed: building %s\n", name)
	began := time.Now()
	_, err := goCommand(ctx, dir, b.env, "build", "-trimpath", "-buildvcs=false", "-mod=readonly",
		"-ldflags", strings.Join(append(ldflags, "-s", "-w"), " "), "-o", path, pkg)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.log, "bed: built %s in %s\n", name, time.Since(began).Round(time.Second))
	return nil
}

// KyvernoManifest keeps Kyverno's install manifest beside its binary, so that a start does not need the module cache.
func (b Builder) KyvernoManifest(ctx context.Context) (string, error) {
	return b.File(kyvernoTool, "install.yaml", func(_, path string) error {
		module, err := b.ModuleDir(ctx, kyvernoTool, kyvernoModule)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(filepath.Join(module, kyvernoManifest))
		if err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o644)
	})
}

// File returns the path of a file below <cache>/<hash of the module>/. A missing one is made under another name and
// then renamed, so that an interrupted build leaves nothing that looks whole.
func (b Builder) File(module, name string, build func(moduleDir, path string) error) (string, error) {
	dir := b.moduleDir(module)
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

// moduleHash is of every file of a module: most have no more than go.mod and go.sum.
func moduleHash(dir string) (string, error) {
	hash := sha256.New()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		fmt.Fprintf(hash, "%s %d\n%s", name, len(data), data)
		return err
	})
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil))[:16], nil
}

// goCommand runs the go command in a module's directory, outside of any workspace.
func goCommand(ctx context.Context, dir string, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "GOWORK=off"), env...)
	cmd.WaitDelay = 10 * time.Second
	stderr := bytes.Buffer{}
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}
