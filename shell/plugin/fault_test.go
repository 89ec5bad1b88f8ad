package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	framework "github.com/notaryproject/notation-plugin-framework-go/plugin"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/plugintest"
)

// reach lets a plugin of a test be a script, and write beside itself.
func reach(t testing.TB) plugin.Reach {
	t.Helper()
	reach, err := plugin.ParseReach([]string{os.TempDir() + ":rw", "/bin", "/usr/bin", "/lib", "/lib64", "/usr/lib"})
	if err != nil {
		t.Fatal(err)
	}
	return reach
}

// scripted puts a shell script in the place of the plugin.
func scripted(t *testing.T, dir, script string) {
	t.Helper()
	home := filepath.Join(dir, "venafi-csp")
	if err := os.MkdirAll(home, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(home, "notation-venafi-csp")
	if err := os.WriteFile(path+".new", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// verify asks the plugin about a signature whose chain ends in root.
func verify(ctx context.Context, m *plugin.Manager, root string) error {
	found, err := m.Get(ctx, "venafi-csp")
	if err != nil {
		return err
	}
	_, err = found.VerifySignature(ctx, request(root))
	return err
}

func request(source string) *framework.VerifySignatureRequest {
	root, address, _ := strings.Cut(source, "@")
	return &framework.VerifySignatureRequest{
		ContractVersion: framework.ContractVersion,
		Signature: framework.Signature{
			CertificateChain:   [][]byte{[]byte(root)},
			CriticalAttributes: framework.CriticalAttributes{ExtendedAttributes: map[string]any{"com.venafi.notation.plugin.x5u": address}},
		},
	}
}

// descriptors counts the open files of this process; -1 where that cannot be seen.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries)
}

// TestVerifySignatureReportsFaults injects faults of a plugin: each must give the right code before the deadline, and
// leave no process and no open file. Goroutines are checked when all tests have ended.
func TestVerifySignatureReportsFaults(t *testing.T) {
	const marker = "echo $$ >> \"${0%/*}/pids\"\n"
	tests := map[string]struct {
		mode, script string
		want         reason.Code
		says         string
	}{
		"it hangs":                                   {"hang", "", reason.PluginTimeout, "in time"},
		"its child hangs and holds the pipes":        {"hang-child", "", reason.PluginTimeout, "in time"},
		"it crashes":                                 {"crash", "", reason.PluginFailed, "exit status 2"},
		"it kills itself":                            {"", "#!/bin/sh\n" + marker + "kill -9 $$", reason.PluginFailed, "killed"},
		"it answers what is not JSON":                {"garbage", "", reason.PluginFailed, "not the protocol's JSON"},
		"it answers nothing":                         {"", "#!/bin/sh\n" + marker, reason.PluginFailed, "not the protocol's JSON"},
		"it closes its answer and hangs":             {"", "#!/bin/sh\n" + marker + "exec >&- 2>&-\nsleep 60", reason.PluginTimeout, "in time"},
		"it floods":                                  {"flood", "", reason.PluginFailed, "wrote more than"},
		"it floods with errors":                      {"flood-stderr", "", reason.PluginFailed, "wrote more than"},
		"it leaves a child behind that let go of it": {"", "#!/bin/sh\n" + marker + "sleep 60 </dev/null >/dev/null 2>&1 &\necho $! >> \"${0%/*}/pids\"\nexit 3", reason.PluginFailed, "exit status 3"},
		"it leaves a child behind that holds on":     {"", "#!/bin/sh\n" + marker + "sleep 60 &\necho $! >> \"${0%/*}/pids\"\nexit 0", reason.PluginFailed, "left a child behind"},
		"it is no program":                           {"", "no program", reason.PluginFailed, "cannot be started: exec format error"},
		"its interpreter is gone":                    {"", "#!/absent/interpreter\n", reason.PluginFailed, "cannot be started: no such file"},
		"it refuses":                                 {"", "#!/bin/sh\necho '{\"errorCode\":\"VALIDATION_ERROR\",\"errorMessage\":\"no\"}' >&2; exit 1", reason.PluginRefused, "refused verify-signature: no"},
		"it refuses in many lines":                   {"", "#!/bin/sh\nprintf %s '{\"errorCode\":\"ERROR\",\"errorMessage\":\"one\\n\\ntwo\\u001b[31m three\"}' >&2; exit 1", reason.PluginFailed, "one two [31m three"},
		"it tells a secret":                          {"", "#!/bin/sh\necho '{\"errorCode\":\"ERROR\",\"errorMessage\":\"no access with hunter2-hunter2, Bearer hunter2hunter2hunter2hunter2\"}' >&2; exit 1", reason.PluginFailed, "no access with ***, Bearer ***"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			if err := plugintest.Install(standin, dir, "venafi-csp", test.mode); err != nil {
				t.Fatal(err)
			}
			if test.script != "" {
				scripted(t, dir, test.script)
			}
			config := func() map[string]string { return map[string]string{"access_token": "hunter2-hunter2"} }
			timeout := time.Minute
			if test.want == reason.PluginTimeout {
				timeout = time.Second
			}
			m := plugin.NewManager(plugin.Options{Dir: dir, Reach: reach(t), Config: config, Timeout: timeout})
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			before := descriptors()
			var failure *plugin.Error
			if err := verify(ctx, m, "root"); !errors.As(err, &failure) || failure.Code != test.want || !strings.Contains(failure.Text, test.says) {
				t.Errorf("%v; want %s and %q", err, test.want, test.says)
			}
			if ctx.Err() != nil {
				t.Error("the caller's time is out")
			}
			if strings.ContainsAny(failure.Text, "\n\x1b") || strings.Contains(failure.Text, "hunter2") {
				t.Errorf("the text is %q", failure.Text)
			}
			if after := descriptors(); after > before {
				t.Errorf("%d files are open, %d were before", after, before)
			}
			for _, pid := range started(t, dir) {
				if err := plugintest.Ended(pid, 10*time.Second); err != nil {
					t.Error(err)
				}
			}
			if s := m.Stats(); s.Running != 0 || s.Queued != 0 {
				t.Errorf("%+v after all has ended", s)
			}
		})
	}
}

// signal is a named pipe by which a plugin's process tells a test that it runs.
type signal struct{ path string }

func newSignal(t *testing.T) signal {
	t.Helper()
	s := signal{filepath.Join(t.TempDir(), "signal")}
	if err := syscall.Mkfifo(s.path, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// raise is the shell command that raises the signal, which waits until a test waits for it.
func (s signal) raise() string { return "echo > " + s.path }

// wait waits until a process has raised the signal.
func (s signal) wait(t *testing.T) {
	t.Helper()
	if _, err := os.ReadFile(s.path); err != nil {
		t.Error(err)
	}
}

// started gives the processes of which a plugin has left the identifiers.
func started(t *testing.T, dir string) (pids []int) {
	t.Helper()
	for _, file := range []string{"pids", "child"} {
		text, err := os.ReadFile(filepath.Join(dir, "venafi-csp", file))
		if err != nil {
			continue
		}
		for _, word := range strings.Fields(string(text)) {
			var pid int
			if _, err := fmt.Sscan(word, &pid); err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestVerifySignatureReportsARemovedPlugin that was found before, and runs the new file of one that was replaced.
func TestVerifySignatureReportsARemovedPlugin(t *testing.T) {
	m, dir := installed(t, "")
	found, err := m.Get(t.Context(), "venafi-csp")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "venafi-csp", "notation-venafi-csp")); err != nil {
		t.Fatal(err)
	}
	var failure *plugin.Error
	if _, err := found.VerifySignature(t.Context(), request("")); !errors.As(err, &failure) || failure.Code != reason.PluginMissing {
		t.Errorf("removed: %v", err)
	}
	scripted(t, dir, "#!/bin/sh\necho '{}'")
	if _, err := found.VerifySignature(t.Context(), request("")); err != nil {
		t.Errorf("replaced: %v", err)
	}
}

// TestVerifySignatureReportsAProcessThatCannotStart for want of file descriptors, and works again when there are some.
func TestVerifySignatureReportsAProcessThatCannotStart(t *testing.T) {
	open := descriptors()
	if open < 0 {
		t.Skip("open files cannot be counted here")
	}
	m, dir := installed(t, "")
	scripted(t, dir, "#!/bin/sh\necho '{}'")
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 3
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	failed := verify(t.Context(), m, "")
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	var failure *plugin.Error
	if !errors.As(failed, &failure) || failure.Code != reason.PluginFailed || !strings.Contains(failure.Text, "too many open files") {
		t.Errorf("without files: %v", failed)
	}
	if err := verify(t.Context(), m, ""); err != nil {
		t.Errorf("with files: %v", err)
	}
	if after := descriptors(); after > open {
		t.Errorf("%d files are open, %d were before", after, open)
	}
}

func TestManagerBoundsProcesses(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	scripted(t, dir, "#!/bin/sh\necho + >> "+log+"\nsleep 0.02\necho - >> "+log+"\necho '{}'")
	m := plugin.NewManager(plugin.Options{Dir: dir, Reach: reach(t), Timeout: 20 * time.Second, MaxProcesses: 3})
	var callers sync.WaitGroup
	for range 30 {
		callers.Go(func() {
			if err := verify(t.Context(), m, ""); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	running, most := 0, 0
	for _, step := range strings.Fields(string(text)) {
		if step == "+" {
			running++
		} else {
			running--
		}
		most = max(most, running)
	}
	if most > 3 || most < 1 || m.Stats().Started != 30 {
		t.Errorf("%d ran at once, %d in all; want at most 3, and 30", most, m.Stats().Started)
	}
}

func TestVerifySignatureBlamesNobodyForWaitingInVain(t *testing.T) {
	dir := t.TempDir()
	started := newSignal(t)
	scripted(t, dir, "#!/bin/sh\n"+started.raise()+"; sleep 60")
	m := plugin.NewManager(plugin.Options{Dir: dir, Reach: reach(t), Timeout: time.Minute, MaxProcesses: 1})
	first, leave := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- verify(first, m, "") }()
	started.wait(t)
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		var failure *plugin.Error
		if err := verify(ctx, m, ""); !errors.As(err, &failure) || failure.Code != reason.PluginTimeout || !strings.Contains(failure.Text, "waiting") {
			t.Errorf("queued: %v", err)
		}
		cancel()
	}
	leave()
	if err := <-ended; err == nil {
		t.Error("a plugin that hangs has answered")
	}
	if s := m.Stats(); s.Started != 1 || s.Failed != 0 || s.OpenCircuits != 0 || s.Queued != 0 || s.Running != 0 {
		t.Errorf("%+v", s)
	}
}

func TestCircuitOpensForABrokenPluginOnly(t *testing.T) {
	started := newSignal(t)
	const refuse = "#!/bin/sh\necho '{\"errorCode\":\"ERROR\",\"errorMessage\":\"no\"}' >&2; exit 1"
	tests := map[string]struct {
		script string
		other  string // script that takes its place after ten calls; "" for none
		root   string // of the eleventh signature, and after @ the address that it names
		spent  bool   // the callers give no time
		pause  time.Duration
		want   uint64 // processes
		says   string // to the eleventh
	}{
		"it crashes":                                 {"#!/bin/sh\nexit 2", "", "a", false, time.Hour, 5, "is left alone from"},
		"it refuses":                                 {refuse, "", "a", false, time.Hour, 11, "refused"},
		"it crashes at another CA's signatures":      {"#!/bin/sh\nexit 2", "", "b", false, time.Hour, 6, "exit status 2"},
		"it crashes at another address":              {"#!/bin/sh\nexit 2", "", "a@https://tpp.example.com/2", false, time.Hour, 6, "exit status 2"},
		"it crashes and is replaced by a better one": {"#!/bin/sh\nexit 2", "#!/bin/sh\necho '{}'", "a", false, time.Hour, 6, ""},
		"it crashes, and the pause is over":          {"#!/bin/sh\nexit 2", "", "a", false, time.Nanosecond, 11, "exit status 2"},
		"its callers have no time for it":            {"#!/bin/sh\n" + started.raise() + "; sleep 60", "", "a", true, time.Hour, 11, "in time"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			scripted(t, dir, test.script)
			m := plugin.NewManager(plugin.Options{Dir: dir, Reach: reach(t), Timeout: time.Minute, Pause: test.pause})
			ask := func(root string) error {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if test.spent {
					go func() {
						started.wait(t)
						cancel()
					}()
				}
				return verify(ctx, m, root)
			}
			for range 10 {
				if err := ask("a"); err == nil {
					t.Fatal("the plugin has answered")
				}
			}
			if test.other != "" {
				scripted(t, dir, test.other)
			}
			err := ask(test.root)
			if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v; want %q", err, test.says)
			}
			if s := m.Stats(); s.Started != test.want || s.Started+s.LeftAlone != 11 {
				t.Errorf("%+v; want %d processes", s, test.want)
			}
		})
	}
}

// BenchmarkProcess is the least that one call of a plugin written in Go costs.
func BenchmarkProcess(b *testing.B) {
	for _, env := range []string{"GOMAXPROCS=1", "GOMAXPROCS=2"} {
		b.Run(env, func(b *testing.B) {
			dir := b.TempDir()
			if err := plugintest.Install(standin, dir, "venafi-csp", ""); err != nil {
				b.Fatal(err)
			}
			m := plugin.NewManager(plugin.Options{Dir: dir, Reach: reach(b), Timeout: time.Minute, Env: []string{env}})
			before := children(b)
			for b.Loop() {
				if err := verify(b.Context(), m, ""); err != nil && !strings.Contains(err.Error(), "refused") {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(children(b)-before)/float64(b.N)/1e6, "plugin-cpu-ms/op")
		})
	}
}

// children is the processor time that ended children have used.
func children(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func TestCircuitIgnoresCallersWithoutTime(t *testing.T) {
	dir := t.TempDir()
	hangs := filepath.Join(dir, "hangs")
	scripted(t, dir, "#!/bin/sh\n[ -e "+hangs+" ] && sleep 60\nexit 2")
	m := plugin.NewManager(plugin.Options{Dir: dir, Reach: reach(t), Timeout: time.Minute, Pause: time.Hour})
	crash := func(times int) {
		t.Helper()
		for range times {
			if err := verify(t.Context(), m, ""); err == nil || !strings.Contains(err.Error(), "exit status 2") {
				t.Fatal(err)
			}
		}
	}
	crash(4)
	if err := os.WriteFile(hangs, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := verify(ctx, m, ""); err == nil || !strings.Contains(err.Error(), "in time") {
			t.Errorf("in a short time: %v", err)
		}
		cancel()
	}
	if err := os.Remove(hangs); err != nil {
		t.Fatal(err)
	}
	if s := m.Stats(); s.Failed != 4 || s.OpenCircuits != 0 {
		t.Errorf("%+v; want four failures and no open circuit", s)
	}
	crash(1)
	if s := m.Stats(); s.OpenCircuits != 1 {
		t.Errorf("%+v after the fifth failure in a row; want an open circuit", s)
	}
}
