package main

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"
)

// What a release says of itself, by -ldflags "-X main.version=... -X main.commit=... -X main.date=..."; else what Go recorded.
var version, commit, date string

// notableModules are those whose versions tell how the program verifies.
var notableModules = []string{
	"github.com/notaryproject/notation-go", "github.com/notaryproject/notation-core-go", "oras.land/oras-go/v2", "k8s.io/client-go",
}

// versionInfo is what the command version prints.
type versionInfo struct {
	Version  string            `json:"version"`
	Commit   string            `json:"commit,omitempty"`
	Modified bool              `json:"modified,omitempty"` // the source was not that of the commit
	Date     string            `json:"date,omitempty"`     // of the commit; RFC 3339
	Go       string            `json:"go"`
	Platform string            `json:"platform"`
	Modules  map[string]string `json:"modules,omitempty"`
}

func newVersion() *cobra.Command {
	var output string
	command := &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArguments,
		Long: "Prints the version of the program, and what it was built of.",
	}
	withOutput(command, &output, "text", "json", "yaml")
	command.RunE = func(c *cobra.Command, _ []string) error {
		info, _ := debug.ReadBuildInfo()
		return printVersion(c.OutOrStdout(), output, versionOf(info))
	}
	return command
}

// versionOf tells the version of a program, of which info may be nil.
func versionOf(info *debug.BuildInfo) versionInfo {
	found := versionInfo{Version: version, Commit: commit, Date: date, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Modules: map[string]string{}}
	if info == nil {
		info = &debug.BuildInfo{}
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			found.Commit = cmp.Or(found.Commit, setting.Value)
		case "vcs.time":
			found.Date = cmp.Or(found.Date, setting.Value)
		case "vcs.modified":
			found.Modified = setting.Value == "true" && commit == ""
		}
	}
	if info.Main.Version != "(devel)" {
		found.Version = cmp.Or(found.Version, info.Main.Version)
	}
	found.Version = cmp.Or(found.Version, "devel")
	for _, module := range info.Deps {
		if slices.Contains(notableModules, module.Path) {
			found.Modules[module.Path] = module.Version
		}
	}
	return found
}

func printVersion(out io.Writer, output string, info versionInfo) error {
	switch output {
	case "json":
		return printJSON(out, info)
	case "yaml":
		return printYAML(out, info)
	}
	built := ""
	if info.Commit != "" {
		built = fmt.Sprintf(" (commit %s%s%s)", info.Commit[:min(12, len(info.Commit))], map[bool]string{true: ", modified"}[info.Modified], map[bool]string{true: ", " + info.Date}[info.Date != ""])
	}
	_, err := fmt.Fprintf(out, "kyverno-notation-venafi %s%s, %s, %s\n", info.Version, built, info.Go, info.Platform)
	return err
}
