package bed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// KyvernoVersion is the environment variable that has Kyverno built in another version than tools/kyverno pins, "v1.18.2" for
// example: the programs and the manifests that install it.
const KyvernoVersion = "KYVERNO_VERSION"

// useKyverno has the builder take Kyverno from a module that is made for a version, unless tools/kyverno pins that version.
func (b *Builder) useKyverno(ctx context.Context, version string) error {
	if version == "" {
		return nil
	}
	pinned, err := goCommand(ctx, b.moduleDir(kyvernoTool), nil, "list", "-m", "-f", "{{.Version}}", kyvernoModule)
	if err != nil || version == strings.TrimSpace(string(pinned)) {
		return err
	}
	b.kyvernoDir = filepath.Join(b.cache, "tools", kyvernoTool+"-"+version)
	if _, err := os.Stat(b.kyvernoDir); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(b.kyvernoDir), 0o755); err != nil {
		return err
	}
	unfinished, err := os.MkdirTemp(filepath.Dir(b.kyvernoDir), "unfinished-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(unfinished) // unless it got its name
	if err := pinKyverno(ctx, unfinished, version); err != nil {
		return err
	}
	if err := os.Rename(unfinished, b.kyvernoDir); err != nil && !errors.Is(err, os.ErrExist) { // another run was faster
		return err
	}
	return nil
}

// pinKyverno makes a module that pins a version of Kyverno. It takes over what Kyverno replaces, which holds in Kyverno's own
// module only.
func pinKyverno(ctx context.Context, dir, version string) error {
	const module = "module kyverno\n\ngo 1.26.0\n"
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(module), 0o644); err != nil {
		return err
	}
	downloaded := struct{ GoMod string }{}
	out, err := goCommand(ctx, dir, nil, "mod", "download", "-json", kyvernoModule+"@"+version)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, &downloaded); err != nil {
		return fmt.Errorf("answer of go mod download: %w", err)
	}
	if out, err = goCommand(ctx, dir, nil, "mod", "edit", "-json", downloaded.GoMod); err != nil {
		return err
	}
	its := struct {
		Replace []struct{ Old, New moduleVersion }
	}{}
	if err := json.Unmarshal(out, &its); err != nil {
		return fmt.Errorf("go.mod of Kyverno %s: %w", version, err)
	}
	edits := []string{"mod", "edit"}
	for _, replace := range its.Replace {
		edits = append(edits, fmt.Sprintf("-replace=%s=%s", replace.Old, replace.New))
	}
	if _, err := goCommand(ctx, dir, nil, edits...); err != nil {
		return err
	}
	get := []string{"get", "-tool"}
	for _, program := range []string{"kyverno", "kyverno-init", "reports-controller"} {
		get = append(get, kyvernoModule+"/cmd/"+program+"@"+version)
	}
	_, err = goCommand(ctx, dir, nil, get...)
	return err
}

type moduleVersion struct{ Path, Version string }

// String is "path@version", or the path alone where it is of every version.
func (m moduleVersion) String() string {
	return strings.TrimSuffix(m.Path+"@"+m.Version, "@")
}
