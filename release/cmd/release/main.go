// Command release makes a release of the checkout in a folder, verifies it, and pushes it where one says so. See the README.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/nirmata/kyverno-notation-venafi/release"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	err := run(ctx, os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// settings are the flags.
type settings struct {
	source, out, platforms    string
	key, certificates, plugin string
	push, plainHTTP           bool
	options                   release.Options
}

func parse(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.StringVar(&s.source, "source", ".", "`Folder` of the checkout.")
	flags.StringVar(&s.out, "out", "", "`Folder` that the release is written to; it must not exist.")
	flags.StringVar(&s.options.Version, "version", "", "Version, such as v0.1.0; else VERSION, else v0.0.0-dev with the commit.")
	flags.StringVar(&s.options.Repository, "repository", "ghcr.io/nirmata/kyverno-notation-venafi", "Repository of the image.")
	flags.StringVar(&s.options.ChartRepository, "chartRepository", "ghcr.io/nirmata/charts/kyverno-notation-venafi", "Repository of the chart, with its name.")
	flags.StringVar(&s.platforms, "platforms", "linux/amd64,linux/arm64,linux/arm/v7", "Platforms of the image, comma-separated.")
	flags.StringVar(&s.options.Plugin.Release, "pluginRelease", "https://github.com/Venafi/notation-venafi-csp/releases/download/v0.3.3", "`URL` of the venafi-csp plugin's archives.")
	flags.StringVar(&s.plugin, "pluginSHA256", os.Getenv("PLUGIN_SHA256"), "Checksums of the plugin's archives, separated by blanks; else PLUGIN_SHA256. Without, the image has no plugin.")
	flags.StringVar(&s.key, "key", "", "`File` with the signing key (PKCS #8, PEM); else the variable RELEASE_KEY holds it; else a key is made and thrown away.")
	flags.StringVar(&s.certificates, "certificates", "", "`File` with the certificates of the key, from the signer's to the root (PEM); else the variable RELEASE_CERTIFICATES holds them.")
	flags.StringVar(&s.options.Builder, "builder", release.LocalBuilder, "Identifier of the builder in the provenance: a `URI`.")
	flags.BoolVar(&s.options.Scan, "scan", true, "Attach a scan for known vulnerabilities, where their data can be had.")
	flags.StringVar(&s.options.Database, "vulndb", "", "`URL` of the database of vulnerabilities; else Go's own.")
	flags.BoolVar(&s.push, "push", false, "Push to the repositories. Otherwise the release is verified in a registry of this process.")
	flags.BoolVar(&s.plainHTTP, "plainHTTP", false, "Push over plain HTTP, to a registry on this machine.")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 || s.out == "" {
		return s, errors.New("name the folder for the release with --out, and nothing else")
	}
	s.options.Log, s.options.Plugin.Sums = os.Stderr, strings.Fields(s.plugin)
	return s, s.parsePlatforms()
}

func (s *settings) parsePlatforms() error {
	for _, text := range strings.Split(s.platforms, ",") {
		platform, err := v1.ParsePlatform(text)
		if err != nil {
			return err
		}
		s.options.Platforms = append(s.options.Platforms, *platform)
	}
	return nil
}

// signingKey reads the key, or makes one.
func (s *settings) signingKey() (key release.Key, err error) {
	key = release.Key{PrivatePEM: []byte(os.Getenv("RELEASE_KEY")), ChainPEM: []byte(os.Getenv("RELEASE_CERTIFICATES"))}
	if s.key != "" {
		if key.PrivatePEM, err = os.ReadFile(s.key); err != nil {
			return key, err
		}
	}
	if s.certificates != "" {
		if key.ChainPEM, err = os.ReadFile(s.certificates); err != nil {
			return key, err
		}
	}
	if len(key.PrivatePEM)+len(key.ChainPEM) > 0 {
		return key, nil
	}
	if s.push {
		return key, errors.New("a release that is pushed needs a key that its users know: --key and --certificates")
	}
	return release.ThrowAway(time.Now())
}

func run(ctx context.Context, args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(s.source)
	if err != nil {
		return err
	}
	source, err := release.ReadSource(ctx, dir)
	if err != nil {
		return err
	}
	s.options.Version = cmp.Or(s.options.Version, os.Getenv("VERSION"), "v0.0.0-dev."+source.Commit[:12])
	if s.options.Key, err = s.signingKey(); err != nil {
		return err
	}
	if err := release.Make(ctx, source, s.options, s.out); err != nil {
		return err
	}
	if err := s.pushAndVerify(ctx, source); err != nil {
		return err
	}
	digests, err := os.ReadFile(filepath.Join(s.out, release.DigestsFile))
	fmt.Printf("%sverified, with check\n", digests)
	return err
}

// pushAndVerify pushes to the repositories, or to a registry of this process, and has the program verify what is there.
func (s *settings) pushAndVerify(ctx context.Context, source release.Source) error {
	to := release.Target{Repository: s.options.Repository, ChartRepository: s.options.ChartRepository, PlainHTTP: s.plainHTTP}
	if !s.push {
		registry := release.Serve()
		defer registry.Close()
		to = registry.Target()
	}
	checker, err := release.NewChecker(ctx, source, s.options.Version, s.out, to.PlainHTTP)
	if err != nil {
		return err
	}
	defer checker.Close()
	if err := release.Push(ctx, s.out, to); err != nil {
		return err
	}
	demands, err := os.MkdirTemp("", "release-demands-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(demands)
	if err := release.Demands(source, s.options.Builder, demands); err != nil {
		return err
	}
	return release.Verify(ctx, demands, s.out, to, checker)
}
