package bed

import (
	"context"
	"os"
	"path/filepath"
)

// The resources of reports, and where the modules that Kyverno is built with keep their definitions.
const (
	PolicyReports = "policyreports.wgpolicyk8s.io"
	OpenReports   = "reports.openreports.io"
)

var definitions = map[string]struct{ module, file string }{
	PolicyReports: {kyvernoModule, "config/crds/policyreport/wgpolicyk8s.io_policyreports.yaml"},
	OpenReports:   {"github.com/openreports/reports-api", "config/crd/openreports.io_reports.yaml"},
}

// Define creates the definition of a resource of reports, and waits until it is served.
func (b *Bed) Define(ctx context.Context, resource string) error {
	builder, err := NewBuilder(ctx, b.opts)
	if err != nil {
		return err
	}
	of := definitions[resource]
	dir, err := builder.ModuleDir(ctx, kyvernoTool, of.module)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, of.file))
	if err != nil {
		return err
	}
	if _, err := b.Kubectl(ctx, string(text), "create", "-f", "-"); err != nil {
		return err
	}
	_, err = b.Kubectl(ctx, "", "wait", "--for=condition=Established", "--timeout=1m", "crd/"+resource)
	return err
}
