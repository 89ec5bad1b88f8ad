package plugin_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/plugin"
)

func TestProcessesLeaveNoOrphans(t *testing.T) {
	for sentence, redirect := range map[string]string{"it let go of the pipes": "</dev/null >/dev/null 2>&1", "it holds the pipes": ""} {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			scripted(t, dir, "#!/bin/sh\nsleep 60 "+redirect+" &\necho $! >> \"${0%/*}/pids\"\nexit 2")
			m := plugin.NewManager(plugin.Options{Dir: dir, Reach: reach(t), Timeout: time.Minute})
			if err := verify(t.Context(), m, ""); err == nil {
				t.Error("the plugin has answered")
			}
			for _, pid := range started(t, dir) {
				if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
					t.Errorf("the child is left: %s", strings.Split(string(status), "\n")[2])
				}
			}
		})
	}
}
