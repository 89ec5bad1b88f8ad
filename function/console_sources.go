package function

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nirmata/kyverno-notation-venafi/shell/auditor"
	"github.com/nirmata/kyverno-notation-venafi/shell/inventory"
	"github.com/nirmata/kyverno-notation-venafi/shell/kube"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// maxConsoleReports bounds how many reports the console reads at once.
const maxConsoleReports = 5000

// Sentences about what a console does not have.
const (
	noDecisionsInManager = "Decisions are not known here: they are in the memory and in the logs of the replicas that serve. To see them, run the command console with --service, or with --records for a log."
	noRunningWithoutOne  = "What runs is not known without a cluster. Run the command console with --kubeconfig, of a cluster in which the certificate manager runs with --audit."
)

// NewClusterConsole makes a console that reads trust and the auditor's reports from a cluster. Where decisions is nil it has none.
func NewClusterConsole(settings Settings, own ConsoleSettings, client *kubeclient.Client, decisions ConsoleDecisions, log *slog.Logger) (*Console, error) {
	sources := ConsoleSources{
		Trust: func(ctx context.Context) (shelltrust.Resources, []shelltrust.Problem, error) {
			resources, err := inventory.Trust(ctx, client)
			return resources, nil, err
		},
		Decisions: decisions, NoDecisions: noDecisionsInManager,
		Running: func(ctx context.Context) (ConsoleReports, error) { return writtenReports(ctx, client) },
	}
	return NewConsole(settings, own, sources, func(audiences, users []string) (CallerReview, error) {
		return kube.NewReviewer(client, kube.ReviewerOptions{Audiences: audiences, AllowedUsers: users}), nil
	}, log)
}

// NewFilesConsole makes a console that reads trust from trustDir, and needs no cluster.
func NewFilesConsole(settings Settings, own ConsoleSettings, decisions ConsoleDecisions, log *slog.Logger) (*Console, error) {
	sources := ConsoleSources{
		Trust: func(context.Context) (shelltrust.Resources, []shelltrust.Problem, error) {
			return shelltrust.ReadDir(settings.TrustDir)
		},
		Decisions: decisions, NoDecisions: noDecisionsNamed, NoRunning: noRunningWithoutOne,
	}
	return NewConsole(settings, own, sources, func(_, _ []string) (CallerReview, error) {
		return nil, errors.New("tokens are reviewed by a cluster, and trustDir is set; leave one of them out")
	}, log)
}

// noDecisionsNamed is what the command shows where it is not told of decisions.
const noDecisionsNamed = "Decisions are not known here. Name a log of records in --records, or a service in --service."

// writtenReports reads what the auditor wrote.
func writtenReports(ctx context.Context, client *kubeclient.Client) (ConsoleReports, error) {
	written, more, err := auditor.Written(ctx, client, maxConsoleReports)
	if err != nil {
		return ConsoleReports{}, err
	}
	from := fmt.Sprintf("From %d reports of the auditor.", len(written))
	switch {
	case more:
		from = fmt.Sprintf("From the first %d reports of the auditor; there are more.", len(written))
	case len(written) == 0:
		from = "The auditor has written no report; it runs where the certificate manager has --audit."
	}
	return ConsoleReports{Reports: written, From: from}, nil
}
