package core_test

import (
	"reflect"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core"
)

func TestSealedSnapshotsGiveTheSamePlan(t *testing.T) {
	tasks := 0
	for _, path := range goldenPaths(t) {
		c := readGolden(t, path)
		request, err := core.ParseRequest(c.request)
		if err != nil {
			continue
		}
		want, wantErr := core.NewPlan(request, c.trust, c.dflt)
		got, err := core.NewPlan(request, c.trust.Sealed(), c.dflt)
		if !reflect.DeepEqual(got, want) || (err == nil) != (wantErr == nil) {
			t.Errorf("%s: %+v, %v\nwant %+v, %v", path, got, err, want, wantErr)
		}
		tasks += len(got.Tasks)
	}
	if tasks == 0 {
		t.Error("no case has a task")
	}
}
