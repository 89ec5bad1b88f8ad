package release

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What the program is told to demand, in the folder release of the source.
const (
	imageDemands = "attestations.yaml"
	scanDemands  = "vulnerabilities.yaml"
	chartDemands = "chart-attestations.yaml"
)

// Verdict is what check says of one image.
type Verdict struct {
	Code   string `json:"code"`
	Reason string `json:"reason"`
	Digest string `json:"digest"`
}

// Checker runs the program's check.
type Checker struct {
	Program  string   // path
	TrustDir string   // with the resources of TrustPolicyName
	Flags    []string // further flags, such as --insecureRegistries

	made string // folder to remove; "" for none
}

// NewChecker takes the program of a release, or builds one where none of the release runs on this machine. Images are in a registry of
// this machine if plain is set.
func NewChecker(ctx context.Context, source Source, version, dir string, plain bool) (*Checker, error) {
	c := &Checker{TrustDir: filepath.Join(dir, TrustDir, "resources")}
	if plain {
		c.Flags = []string{"--allowInsecureRegistry", "--allowLoopback"}
	}
	here := v1.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}
	c.Program = binaryPath(filepath.Join(dir, "bin"), here)
	if _, err := os.Stat(c.Program); err == nil {
		return c, nil
	}
	var err error
	if c.made, err = os.MkdirTemp("", "release-check-"); err != nil {
		return nil, err
	}
	binary, err := Build(ctx, source, version, here, c.made)
	c.Program = binary.Path
	return c, errors.Join(err, c.closeIf(err))
}

// Close removes what was built.
func (c *Checker) Close() error {
	if c.made == "" {
		return nil
	}
	return os.RemoveAll(c.made)
}

func (c *Checker) closeIf(err error) error {
	if err == nil {
		return nil
	}
	return c.Close()
}

// Check verifies one image or chart, with the attestations that a file demands.
func (c *Checker) Check(ctx context.Context, reference, demands string) (Verdict, error) {
	args := append([]string{"check", "--trustDir", c.TrustDir, "--trustPolicy", TrustPolicyName, "--attestations", demands, "-o", "json"}, c.Flags...)
	command := exec.CommandContext(ctx, c.Program, append(args, reference)...)
	var printed, said bytes.Buffer
	command.Stdout, command.Stderr = &printed, &said
	failed := command.Run()
	var exit *exec.ExitError
	if failed != nil && !errors.As(failed, &exit) {
		return Verdict{}, failed
	}
	var answer struct{ Results []Verdict }
	if err := json.Unmarshal(printed.Bytes(), &answer); err != nil || len(answer.Results) != 1 {
		return Verdict{}, fmt.Errorf("check %s: %w: %s%s", reference, errors.Join(failed, err), printed.Bytes(), said.Bytes())
	}
	return answer.Results[0], nil
}

// PublishedBuilder is the builder that the demands name: the workflow of a tag.
const PublishedBuilder = SourceURL + "/.github/workflows/release.yaml@refs/tags/v*"

// Demands copies what the source demands of a release into a folder, with another builder.
func Demands(source Source, builder, into string) error {
	for name, times := range map[string]int{imageDemands: 1, scanDemands: 0, chartDemands: 1} {
		text, err := os.ReadFile(filepath.Join(source.Dir, "release", name))
		if err != nil {
			return err
		}
		if bytes.Count(text, []byte(PublishedBuilder)) != times {
			return fmt.Errorf("release/%s must name the builder %s %d times", name, PublishedBuilder, times)
		}
		if err := os.WriteFile(filepath.Join(into, name), bytes.ReplaceAll(text, []byte(PublishedBuilder), []byte(builder)), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Verify checks the image and the chart of a release folder, where they were pushed to, by a folder of demands. Those on the scan hold only
// where there is one.
func Verify(ctx context.Context, demands, dir string, to Target, checker *Checker) error {
	image, err := Tagged(filepath.Join(dir, ImageLayout))
	if err != nil {
		return err
	}
	chart, err := Tagged(filepath.Join(dir, ChartLayout))
	if err != nil {
		return err
	}
	checks := [][2]string{{to.Repository + "@" + image, imageDemands}, {to.ChartRepository + "@" + chart, chartDemands}}
	if scanned, err := filepath.Glob(filepath.Join(dir, "scan.*")); err != nil || len(scanned) > 0 {
		checks = append(checks, [2]string{checks[0][0], scanDemands})
	}
	for _, check := range checks {
		verdict, err := checker.Check(ctx, check[0], filepath.Join(demands, check[1]))
		if err != nil {
			return err
		}
		if verdict.Code != "Verified" {
			return fmt.Errorf("%s by %s: %s: %s", check[0], check[1], verdict.Code, verdict.Reason)
		}
	}
	return nil
}

// Tagged is the digest of what a layout has a tag for.
func Tagged(dir string) (string, error) {
	listed, err := manifests(dir)
	if err != nil {
		return "", err
	}
	for _, manifest := range listed {
		if manifest.Annotations[ocispec.AnnotationRefName] != "" {
			return manifest.Digest.String(), nil
		}
	}
	return "", fmt.Errorf("%s has no tag", dir)
}
