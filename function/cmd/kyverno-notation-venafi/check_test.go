package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/function/cmd/internal/terminal"
)

// steering is what a registry may say to steer a terminal, and the readers of reports.
const steering = "\x1b[2J\x1b]0;owned\a<evil/>\r\n\u202e\u009b1m"

func checkedImages() []checked {
	digest := "sha256:" + strings.Repeat("ab", 32)
	result := func(name string, verified bool, code reason.Code, why string) core.Result {
		return core.Result{Name: name, Kind: "container", Path: "/spec/containers/0/image", Image: name, Requested: name, Verified: verified, Code: code, Reason: why}
	}
	good := result("reg.example/acme/app:v1", true, reason.Verified, "signed by CN=Acme Release")
	good.Digest = digest
	return []checked{
		{verdict: core.Verdict{Class: reason.Admitted, Verified: true, Results: []core.Result{good}}},
		{workload: audit.Workload{Namespace: "team-a", Kind: "Deployment", Name: "web" + steering}, verdict: core.Verdict{Class: reason.Denied, Results: []core.Result{
			result("reg.example/acme/evil:v1"+steering, false, reason.NoSignature, "no signature is associated with it"+steering),
			result("reg.example/acme/lax:v1", true, reason.Skipped, "the level is skip"),
		}}},
		{verdict: core.Verdict{Class: reason.Failed, Results: []core.Result{result("reg.example/acme/away:v1", false, reason.RegistryUnavailable, "the registry cannot be reached")}}},
	}
}

// TestCheckOutputs compares every format with its golden file. What came from elsewhere never steers the terminal.
func TestCheckOutputs(t *testing.T) {
	for _, format := range []string{"table", "json", "yaml", "sarif", "junit"} {
		t.Run(format, func(t *testing.T) {
			var got bytes.Buffer
			if err := (&checkOptions{output: format, manifest: "workloads.yaml"}).print(&got, checkedImages()); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", "check", "images."+format)
			if *update {
				if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(want, got.Bytes()) {
				t.Errorf("%v; got\n%s\nwant\n%s", err, &got, want)
			}
			if bytes.ContainsAny(got.Bytes(), "\x1b\a\r\u009b\u202e") {
				t.Errorf("the terminal is steered: %q", &got)
			}
		})
	}
}

// TestVerdictsAreExitStatuses: the word for all is the worst of the images, and so is the status.
func TestVerdictsAreExitStatuses(t *testing.T) {
	all := checkedImages()
	for sentence, test := range map[string]struct {
		found  []checked
		word   verdictWord
		status int
	}{
		"verified":                     {all[:1], wordVerified, 0},
		"denied":                       {all[1:2], wordDenied, 1},
		"unknown":                      {all[2:], wordUnknown, 2},
		"unknown weighs more than yes": {[]checked{all[0], all[2]}, wordUnknown, 2},
		"denied weighs most":           {all, wordDenied, 1},
	} {
		if document, status := documentOf(test.found), statusOf(test.found); document.Verdict != test.word || status != test.status || document.Verified != (status == 0) {
			t.Errorf("%s: %s, %d", sentence, document.Verdict, status)
		}
	}
}

// TestTablesFit the terminal: no line is wider, and both ends of an image's name are kept.
func TestTablesFit(t *testing.T) {
	rows := func() [][]cell {
		return [][]cell{cells("IMAGE", "VERDICT", "REASON"), cells("registry.example.com/acme/shop/frontend:v1.2.3", "denied", "no signature is associated with it, make sure that it was signed")}
	}
	for _, width := range []int{40, 60, 80, 100, 200, 0} {
		var text strings.Builder
		if err := (table{width}).print(&text, rows()); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(text.String()) {
			if length := len([]rune(strings.TrimSuffix(line, "\n"))); width > 0 && length > width {
				t.Errorf("%d columns: a line of %d: %s", width, length, line)
			}
		}
		whole := width == 0 || width == 200
		if strings.Contains(text.String(), "…") == whole || !strings.Contains(text.String(), "denied  ") || !strings.Contains(text.String(), "v1.2.3  ") && width > 40 {
			t.Errorf("%d columns:\n%s", width, &text)
		}
	}
	if tableFor(os.Stdout, true).width != 0 || tableFor(&bytes.Buffer{}, false).width != 0 || terminal.Width(&bytes.Buffer{}, 7) != 7 {
		t.Error("a table that is no terminal's is cut")
	}
}
