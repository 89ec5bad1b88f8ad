package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/notaryproject/notation-go/verifier/trustpolicy"

	"github.com/nirmata/kyverno-notation-venafi/core/notation"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/function"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// The exit statuses of trust import and trust export, beside 2 for a wrong command line or what cannot be read.
const (
	exitCarried    = 0
	exitNotCarried = 1
)

// importTrust prints the resources for a configuration directory of notation, or all that cannot be carried over.
func importTrust(dir, name string, stdout, stderr io.Writer) (int, error) {
	files, err := function.ReadNotation(dir)
	if err != nil {
		return 0, err
	}
	config, err := notation.Import(files)
	var refused notation.Errors
	if errors.As(err, &refused) {
		for _, problem := range refused {
			fmt.Fprintln(stderr, plain(problem.Error()))
		}
		return exitNotCarried, nil
	}
	if err != nil {
		return 0, err
	}
	text, err := config.Manifests(name)
	if err != nil {
		return 0, err
	}
	resources, err := shelltrust.ParseChange("what is imported", []byte(text))
	if err != nil {
		return 0, err
	}
	if _, problems := resources.Compile(); len(problems) > 0 { // what notation would refuse too
		for _, p := range problems {
			fmt.Fprintf(stderr, "%s: %s\n", notation.PolicyFile, plain(p.Kind+" "+p.Name+": "+p.Reason))
		}
		return exitNotCarried, nil
	}
	for _, note := range config.Notes {
		fmt.Fprintln(stderr, "note:", plain(note))
	}
	_, err = io.WriteString(stdout, text)
	return exitCarried, err
}

// exportOptions are the flags of trust export that are no settings.
type exportOptions struct {
	files       []string
	trustPolicy string
}

// exportTrust makes a configuration directory of notation for a trust policy, or tells why it cannot be carried over.
func exportTrust(ctx context.Context, settings function.Settings, environment function.Environment, options exportOptions, dir string, stderr io.Writer) (int, error) {
	resources, err := options.read(ctx, settings, environment, stderr)
	if err != nil {
		return 0, err
	}
	snapshot, _ := resources.Compile() // what is wrong with the policy that is exported, Usable tells
	name, err := options.choose(snapshot)
	if err != nil {
		return 0, err
	}
	var files []notation.File
	policy, finding := snapshot.Usable(name)
	if finding != nil {
		err = errors.New(finding.Reason)
	} else if files, err = notation.Export(policy, snapshot.Stores); err == nil {
		err = acceptedByNotation(files[0])
	}
	if err != nil {
		fmt.Fprintln(stderr, "error:", plain(err.Error()))
		return exitNotCarried, nil
	}
	if slices.ContainsFunc(resources.Policies, func(p shelltrust.PolicyResource) bool {
		return p.Spec.TrustPolicyName == name && p.Spec.AppliesTo != nil
	}) {
		fmt.Fprintln(stderr, "note: spec.appliesTo is left out: it is about audits, and notation has no such thing")
	}
	return exitCarried, function.WriteNotation(dir, files)
}

// read gives the resources in the files that are named, or else those in force.
func (o exportOptions) read(ctx context.Context, settings function.Settings, environment function.Environment, stderr io.Writer) (shelltrust.Resources, error) {
	var resources shelltrust.Resources
	for _, file := range o.files {
		text, err := readManifest(file, maxPolicies)
		if err != nil {
			return resources, err
		}
		read, err := shelltrust.ParseChange(file, text)
		if err != nil {
			return resources, err
		}
		resources = resources.With(read)
	}
	if len(o.files) > 0 {
		return resources.Read(shelltrust.NotAmongManifests), nil
	}
	engine, err := function.NewAudit(settings, environment)
	if err != nil {
		return resources, err
	}
	defer engine.Close()
	resources, problems, err := engine.Trust(ctx)
	warn(stderr, "", problems)
	return resources, err
}

// choose gives the trust policy that is named, or the only one: notation has one document.
func (o exportOptions) choose(snapshot trust.Snapshot) (string, error) {
	names := slices.Sorted(maps.Keys(snapshot.Policies))
	switch {
	case o.trustPolicy != "":
		return o.trustPolicy, nil
	case len(names) == 0:
		return "", errors.New("there is no TrustPolicy")
	case len(names) > 1:
		return "", fmt.Errorf("notation has one trust policy, and there are several; name one with --trustPolicy: %s", strings.Join(names[:min(len(names), 20)], ", "))
	}
	return names[0], nil
}

// acceptedByNotation says why notation would refuse a trust policy document.
func acceptedByNotation(policy notation.File) error {
	var document trustpolicy.Document
	if err := json.Unmarshal(policy.Data, &document); err != nil {
		return err
	}
	return document.Validate()
}
