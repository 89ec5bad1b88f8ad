package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nirmata/kyverno-notation-venafi/function"
)

// usage writes how to call a command, in lines of at most so many columns; cobra's own are as long as their sentences.
func usage(c *cobra.Command, width int) error {
	out := c.OutOrStderr()
	line := c.CommandPath() + strings.TrimPrefix(c.Use, c.Name())
	if c.HasAvailableSubCommands() {
		line = c.CommandPath() + " COMMAND"
	}
	if c.HasAvailableLocalFlags() {
		line += " [flags]"
	}
	fmt.Fprintf(out, "Usage:\n  %s\n", line)
	if c.HasExample() {
		fmt.Fprintf(out, "\nExamples:\n%s\n", c.Example)
	}
	for _, group := range c.Groups() {
		listCommands(out, c, group.ID, group.Title)
	}
	listCommands(out, c, "", map[bool]string{true: "Other commands:", false: "Commands:"}[len(c.Groups()) > 0])
	own, settings := pflag.NewFlagSet("", pflag.ContinueOnError), pflag.NewFlagSet("", pflag.ContinueOnError)
	c.LocalFlags().VisitAll(func(flag *pflag.Flag) {
		if flag.Annotations[function.SettingAnnotation] != nil {
			settings.AddFlag(flag)
		} else {
			own.AddFlag(flag)
		}
	})
	fmt.Fprintf(out, "\nFlags:\n%s", own.FlagUsagesWrapped(width))
	if settings.HasFlags() {
		fmt.Fprintf(out, "\nSettings, which may be environment variables instead:\n%s", settings.FlagUsagesWrapped(width))
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(out, "\nRun %s COMMAND -h for the flags of a command.\n", c.CommandPath())
	}
	return nil
}

// listCommands writes the commands of a group below c, if there are some.
func listCommands(out io.Writer, c *cobra.Command, group, title string) {
	begun := false
	for _, command := range c.Commands() {
		if command.GroupID != group || !command.IsAvailableCommand() && command.Name() != "help" {
			continue
		}
		if !begun {
			fmt.Fprintf(out, "\n%s\n", title)
			begun = true
		}
		fmt.Fprintf(out, "  %-12s %s\n", command.Name(), command.Short)
	}
}
