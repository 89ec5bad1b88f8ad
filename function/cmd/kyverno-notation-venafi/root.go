package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nirmata/kyverno-notation-venafi/function"
)

// helpWidth is the number of columns of help texts that are not written to a terminal.
const helpWidth = 100

// Groups of commands in the help of the program.
const (
	forImages  = "images"
	forRecords = "records"
	forService = "service"
)

// newRoot makes all commands, for a program of this name and a terminal of so many columns. To add a command, write a function
// that makes it, as newCheck does, and name it here.
func newRoot(name string, width int) *cobra.Command {
	root := &cobra.Command{
		Use:   name,
		Short: "Verify container images for Kyverno",
		Long: `Verifies that container images are signed by someone whom trust policies trust: at admission, as the service that Kyverno asks, and
from the command line. Without a command, the program is the service.`,
		SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	if asPlugin(name) {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: strings.Replace(name, "-", " ", 1)}
		root.Long = strings.TrimSuffix(root.Long, " Without a command, the program is the service.")
	}
	root.AddGroup(&cobra.Group{ID: forImages, Title: "Images and what runs:"}, &cobra.Group{ID: forRecords, Title: "Decisions and policies:"}, &cobra.Group{ID: forService, Title: "The service:"})
	for group, commands := range map[string][]*cobra.Command{
		forImages:  {newCheck(), newAudit(), newWhy()},
		forRecords: {newRecords(), newReplay(), newMigrate(), newTrust(), newConsole()},
		forService: {newServe(), newCertmanager(), newProbe()},
		"":         {newVersion()},
	} {
		for _, command := range commands {
			command.GroupID, command.Hidden = group, group == forService && asPlugin(name)
			root.AddCommand(command)
		}
	}
	for _, command := range below(root) {
		command.Example = strings.ReplaceAll(command.Example, "{program}", root.DisplayName())
		command.Flags().BoolP("help", "h", false, "Print this.")
	}
	root.SetFlagErrorFunc(flagError)
	root.SetUsageFunc(func(c *cobra.Command) error { return usage(c, width) })
	return root
}

// below gives a command and all that are below it.
func below(c *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{c}
	for _, command := range c.Commands() {
		all = append(all, below(command)...)
	}
	return all
}

// kubeconfigOfUser is the file that kubectl reads without $KUBECONFIG; "" where there is none, and in a pod.
func kubeconfigOfUser() string {
	_, inPod := os.LookupEnv("KUBERNETES_SERVICE_HOST")
	home, err := os.UserHomeDir()
	if inPod || err != nil {
		return ""
	}
	file := filepath.Join(home, ".kube", "config")
	if _, err := os.Stat(file); err != nil {
		return ""
	}
	return file
}

// asPlugin tells whether the program is called as one of kubectl's, by its name kubectl-knv.
func asPlugin(name string) bool { return strings.HasPrefix(name, "kubectl-") }

// arguments mends a command line: without a command it is that of serve, unless kubectl calls; and flags may be written as they were
// up to now. Of a command that does not exist it tells in a sentence.
func arguments(root *cobra.Command, args []string, stderr io.Writer) ([]string, error) {
	switch {
	case len(args) > 0 && args[0] == "--version":
		args = append([]string{"version"}, args[1:]...)
	case len(args) > 0 && slices.Contains([]string{"-h", "--help", "-help"}, args[0]):
		return []string{"--help"}, nil
	case len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd):
		return args, nil
	case asPlugin(root.Name()) && len(args) == 0:
	case len(args) == 0 || strings.HasPrefix(args[0], "-") || args[0] == "":
		if asPlugin(root.Name()) {
			return nil, fmt.Errorf("name the command ahead of its flags, such as %s check --trustPolicy NAME IMAGE", root.DisplayName())
		}
		args = append([]string{"serve"}, args...)
	}
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(cobra.ShellCompRequestCmd) // which keeps what it writes to
	command, depth := root, 0
	for command.HasSubCommands() && depth < len(args) && !strings.HasPrefix(args[depth], "-") {
		next := child(command, args[depth])
		if next == nil {
			return nil, unknownCommand(command, args[depth])
		}
		command, depth = next, depth+1
	}
	flags := command.Flags()
	command.InitDefaultHelpFlag()
	mended, single := function.DoubleDashes(flags, args[depth:])
	if len(single) > 0 {
		fmt.Fprintf(stderr, "warning: write --%s with two dashes; one dash is deprecated\n", plain(strings.Join(slices.Compact(single), ", --")))
	}
	return append(append([]string{}, args[:depth]...), mended...), nil // never nil, which cobra takes for those of the process
}

// child gives the command of a name below a command; nil for none.
func child(of *cobra.Command, name string) *cobra.Command {
	for _, command := range of.Commands() {
		if command.Name() == name || command.HasAlias(name) {
			return command
		}
	}
	return nil
}

func unknownCommand(of *cobra.Command, name string) error {
	hint := fmt.Sprintf("run %s -h for its commands", of.CommandPath())
	if of.SuggestionsMinimumDistance = 2; len(of.SuggestionsFor(name)) > 0 {
		hint = "did you mean " + strings.Join(of.SuggestionsFor(name), " or ") + "?"
	}
	return fmt.Errorf("unknown command %q; %s", name, hint)
}

// flagError makes a sentence of what is wrong with a flag.
func flagError(c *cobra.Command, err error) error {
	var absent *pflag.NotExistError
	var valueless *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &absent):
		name := "--" + absent.GetSpecifiedName()
		if letters := absent.GetSpecifiedShortnames(); letters != "" {
			name = "-" + letters
		}
		return fmt.Errorf("%s has no flag %s; %s", c.CommandPath(), name, flagHint(c, strings.TrimLeft(name, "-")))
	case errors.As(err, &valueless):
		return fmt.Errorf("--%s needs a value; run %s -h", valueless.GetFlag().Name, c.CommandPath())
	case errors.As(err, &invalid):
		return fmt.Errorf("--%s: %w", invalid.GetFlag().Name, errors.Unwrap(invalid))
	}
	return err
}

// flagHint says what a flag that a command has not may be meant to be: one of a name that is near, or one of other commands.
func flagHint(c *cobra.Command, name string) string {
	names := &cobra.Command{SuggestionsMinimumDistance: 2} // cobra finds near names of commands only
	c.Flags().VisitAll(func(flag *pflag.Flag) {
		names.AddCommand(&cobra.Command{Use: flag.Name, Run: func(*cobra.Command, []string) {}})
	})
	if near := names.SuggestionsFor(name); len(near) > 0 {
		return "did you mean --" + strings.Join(near, " or --") + "?"
	}
	var others []string
	for _, other := range c.Root().Commands() {
		if flag := other.Flags().Lookup(name); flag != nil && !flag.Hidden {
			others = append(others, other.Name())
		}
	}
	if len(others) > 0 {
		return "it is one of " + strings.Join(others, ", ")
	}
	return fmt.Sprintf("run %s -h for its flags", c.CommandPath())
}

// runs has a command run a function that gives the exit status, or an error for status 2.
func runs(run func(c *cobra.Command, args []string) (int, error)) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		status, err := run(c, args)
		if err == nil && status != 0 {
			return exitStatus(status)
		}
		return err
	}
}

// noArguments is for commands that have flags only.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no arguments, but got %q", c.CommandPath(), args)
	}
	return nil
}

// someCommand is what a command that only has others below it does.
func someCommand(c *cobra.Command, _ []string) error {
	var names []string
	for _, command := range c.Commands() {
		names = append(names, command.Name())
	}
	return fmt.Errorf("name a command of %s: %s", c.CommandPath(), strings.Join(names, ", "))
}

// withSettings gives a command the flags of groups of settings, and a function that reads these from them and from the environment.
func withSettings(c *cobra.Command, groups ...string) (read func() (function.Settings, error)) {
	var settings function.Settings
	flags := function.FlagsOf(&settings)
	flags.Register(c.Flags(), groups...)
	return func() (function.Settings, error) {
		if err := flags.Load(os.LookupEnv); err != nil {
			return settings, err
		}
		return settings, settings.Validate()
	}
}

// withClusterOfUser is withSettings for a command that a person runs: without a kubeconfig, it takes the one that kubectl does.
func withClusterOfUser(c *cobra.Command, groups ...string) (read func() (function.Settings, error)) {
	load := withSettings(c, groups...)
	return func() (function.Settings, error) {
		settings, err := load()
		settings.Kubeconfig = cmp.Or(settings.Kubeconfig, kubeconfigOfUser())
		return settings, err
	}
}

// withOutput gives a command the flag -o.
func withOutput(c *cobra.Command, output *string, formats ...string) {
	c.Flags().StringVarP(output, "output", "o", formats[0], "The `format` of what is printed: "+strings.Join(formats, ", ")+".")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // it fails for flags that do not exist
	c.PreRunE = func(*cobra.Command, []string) error {
		if !slices.Contains(formats, *output) {
			return fmt.Errorf("--output is %q; use %s", *output, strings.Join(formats, ", "))
		}
		return nil
	}
}
