package auditor

import (
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Pending stands for the result of an image that was not verified yet.
const Pending Result = "pending"

// Images counts images, as they are written and as they run, by namespace and result.
func (s *State) Images() map[string]map[Result]int {
	counts := map[string]map[Result]int{}
	for name, of := range s.spaces {
		if len(of.checks) == 0 {
			continue
		}
		counts[name] = map[Result]int{}
		for c := range of.checks {
			counts[name][c.result()]++
		}
	}
	return counts
}

func (c *check) result() Result {
	if c.verdict == nil {
		return Pending
	}
	switch class := c.verdict.Code.Class(); {
	case c.verdict.Code == reason.Verified:
		return Pass
	case class == reason.Admitted:
		return Skip
	case c.verdict.Decided():
		return Fail
	}
	return Error
}

// Oldest is when the oldest verdict was made; zero for none.
func (s *State) Oldest() (oldest time.Time) {
	for _, c := range s.checks {
		if c.verdict != nil && (oldest.IsZero() || c.at.Before(oldest)) {
			oldest = c.at
		}
	}
	return oldest
}

// Sizes counts what is kept.
type Sizes struct {
	Pods, LeftOut, Workloads, Images int
}

// Sizes counts what is kept. LeftOut are the pods of which images are left out, for want of room.
func (s *State) Sizes() Sizes {
	return Sizes{Pods: len(s.pods), LeftOut: len(s.leftOut), Workloads: len(s.workloads), Images: len(s.checks)}
}

// Changes gives the times that changes of trust took, from when they were seen to the last report on them, since the last call.
func (s *State) Changes() []time.Duration {
	took := s.change.took
	s.change.took = nil
	return took
}
