package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// recipe is what the Dockerfile says of the product's image.
type recipe struct {
	build string // the shell command that builds the binary into outFolder
	image image  // but for its files
}

// outFolder is where the Dockerfile's stages leave what the image gets.
const outFolder = "/out/"

// readRecipe takes the first stage's last RUN, and what the last stage sets.
func readRecipe(path string) (recipe, error) {
	file, err := os.Open(path)
	if err != nil {
		return recipe{}, err
	}
	defer file.Close()
	parsed, err := parser.Parse(file)
	if err != nil {
		return recipe{}, fmt.Errorf("%s: %w", path, err)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return recipe{}, fmt.Errorf("%s: %w", path, err)
	}
	r := recipe{image: image{Name: productName}}
	for _, command := range stages[0].Commands {
		if run, ok := command.(*instructions.RunCommand); ok {
			r.build = strings.Join(run.CmdLine, " ")
		}
	}
	for _, command := range stages[len(stages)-1].Commands {
		switch command := command.(type) {
		case *instructions.EnvCommand:
			for _, pair := range command.Env {
				r.image.Env = append(r.image.Env, pair.String())
			}
		case *instructions.UserCommand:
			r.image.User = command.User
		case *instructions.EntrypointCommand:
			r.image.Entrypoint = command.CmdLine
		case *instructions.CmdCommand:
			r.image.Command = command.CmdLine
		}
	}
	if !strings.Contains(r.build, outFolder+productName+" ") || len(r.image.Entrypoint) == 0 {
		return recipe{}, fmt.Errorf("%s: no command builds %s%s, or there is no ENTRYPOINT", path, outFolder, productName)
	}
	return r, nil
}

// ImportProduct makes the image of the Dockerfile, by its own command, with the stand-in for the plugin, and without the
// base image's CAs, which nothing in the cluster has a certificate of.
func (c *Cluster) ImportProduct(ctx context.Context) error {
	root, err := moduleDir(ctx)
	if err != nil {
		return err
	}
	r, err := readRecipe(filepath.Join(root, "Dockerfile"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	out := c.ownDir() + "/"
	build := exec.CommandContext(ctx, "sh", "-c", strings.ReplaceAll(r.build, outFolder, out))
	build.Dir, build.Env = root, append(os.Environ(), "TARGETOS=linux", "TARGETARCH="+runtime.GOARCH)
	if err := finish(build, "the Dockerfile's "+r.build); err != nil {
		return err
	}
	plugin, err := c.buildOwn(ctx, "notation-venafi-csp", "shell/plugin/plugintest/standin")
	if err != nil {
		return err
	}
	r.image.Files = map[string]string{
		strings.TrimPrefix(r.image.Entrypoint[0], "/"): out + productName,
		"plugins/venafi-csp/notation-venafi-csp":       plugin,
	}
	return c.importImage(ctx, r.image)
}
