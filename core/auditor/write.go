package auditor

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// Times of writing.
const (
	// patience is how long a workload without a report waits for all its images to be verified.
	patience = time.Minute
	// refreshAfter is after how many intervals a report whose content is right is written for its times alone.
	refreshAfter = 12
	writePause   = time.Second            // at least, between two writes of one report
	writePauseOf = 500 * time.Microsecond // longer, for each of its images
	firstWait    = time.Second            // after a write that failed; doubled up to lastWait
	eventTries   = 4                      // to write a report, before which it waits for its Event
	lastWait     = 2 * time.Minute
)

// Write is a report to write or to delete. Each must be answered by Wrote.
type Write struct {
	Namespace, Name string
	Version         string  // resource version of the report that is replaced or deleted; "" to make one
	Report          *Report // nil to delete
	Event           *Event  // to be recorded before; nil for none
	Late            bool    // the report is not to wait for its Event any longer

	workload *workload // nil for a report of a workload that there is not
	space    *space
}

// Event says that the verdict on a workload changed.
type Event struct {
	Name    string // the same in every process that sees the change
	Reason  string
	Warning bool
	Note    string
	On      Object
}

// Outcome of a write.
type Outcome int

// The outcomes.
const (
	Written  Outcome = iota
	Conflict         // the report is not what it was when it was last seen
	Failed           // it may be tried again
)

// Report takes in a report of ours that was seen.
func (s *State) Report(seen Report) {
	have := read(seen)
	name := seen.Metadata.Name
	if !Ours(name) { // who gives a report our label does not have it deleted
		return
	}
	of := s.space(seen.Metadata.Namespace)
	w := s.workloads[strings.TrimPrefix(name, namePrefix)]
	if w == nil || w.space != of || reportName(w.UID) != name {
		have.writing = of.orphans[name].writing
		of.orphans[name] = have
		return
	}
	switch {
	case w.said != nil && w.said.stored == have.stored: // what was written comes back
		w.said.Version = have.Version
	default:
		w.said = &have
		w.touch()
		s.adopt(w)
	}
}

// ReportGone forgets a report that was deleted.
func (s *State) ReportGone(namespace, name string) {
	of := s.spaces[namespace]
	if of == nil || !Ours(name) {
		return
	}
	delete(of.orphans, name)
	if w := s.workloads[strings.TrimPrefix(name, namePrefix)]; w != nil && w.space == of {
		w.said = nil
		w.touch()
	}
}

// Reports replaces all reports by those of a list. Before the first list nothing is written.
func (s *State) Reports(seen []Report) {
	s.Unlisted()
	for _, report := range seen {
		s.Report(report)
	}
	s.listed = true
	s.adoptAll()
}

// Unlisted forgets all reports. Nothing is written before the next list.
func (s *State) Unlisted() {
	s.listed = false
	for _, of := range s.spaces {
		clear(of.orphans)
	}
	for _, w := range s.workloads {
		w.said = nil
		w.touch()
	}
}

// adopt has the images of a workload verified at once of which the report was made under another trust: the change came when
// nobody looked.
func (s *State) adopt(w *workload) {
	if !s.trusted || w.said == nil || w.said.Revision == w.revision() {
		return
	}
	for _, u := range w.uses {
		for _, c := range u.checks {
			if c.verdict == nil {
				c.urgent = true
			}
		}
	}
}

func (s *State) adoptAll() {
	for _, w := range s.workloads {
		s.adopt(w)
	}
}

// NextWrite gives a report to write now, or else the time after which there may be one. The namespace goes first whose last turn
// is longest ago.
func (s *State) NextWrite(now time.Time) (*Write, time.Duration) {
	wait := time.Minute
	if !s.listed || !s.trusted {
		return nil, wait
	}
	for _, sp := range s.byLastWrite() {
		for {
			w, orphan, pause := sp.toWrite(now, keptFor*s.options.Interval)
			switch {
			case orphan != "":
				return s.remove(sp, orphan), 0
			case w == nil:
				wait = min(wait, pause)
			default:
				if write := s.rewrite(w, now); write != nil {
					return write, 0
				}
				continue // its report is right
			}
			break
		}
	}
	return nil, wait
}

// byLastWrite lists the namespaces that may have something to write, the one first whose last turn is longest ago.
func (s *State) byLastWrite() []*space {
	var sorted []*space
	for _, sp := range s.spaces {
		if len(sp.dirty)+len(sp.orphans) > 0 {
			sorted = append(sorted, sp)
		}
	}
	slices.SortFunc(sorted, func(a, b *space) int { return cmp.Or(cmp.Compare(a.wrote, b.wrote), strings.Compare(a.name, b.name)) })
	return sorted
}

// toWrite gives a workload of a namespace whose report is to be looked at, or the name of a report to delete, or else how long to
// wait. What a report says is kept for some time while images are not verified.
func (sp *space) toWrite(now time.Time, kept time.Duration) (best *workload, orphan string, wait time.Duration) {
	wait = time.Minute
	for name, have := range sp.orphans {
		switch pause := have.due.Sub(now); {
		case have.writing:
		case pause > 0:
			wait = min(wait, pause)
		case orphan == "" || name < orphan:
			orphan = name
		}
	}
	if orphan != "" {
		return nil, orphan, 0
	}
	for w := range sp.dirty {
		if w.writing {
			continue
		}
		pause := w.due.Sub(now)
		if complete, denied := w.progress(); !complete {
			switch {
			case w.said == nil:
				pause = max(pause, w.since.Add(patience).Sub(now))
			case !denied || w.said.worst == Fail: // else an image that is never verified would hide it
				pause = max(pause, w.since.Add(kept).Sub(now))
			}
		}
		if pause > 0 {
			wait = min(wait, pause)
			continue
		}
		if best == nil || w.UID < best.UID {
			best = w
		}
	}
	return best, "", wait
}

// progress tells whether all images were verified, and whether one is denied.
func (w *workload) progress() (complete, denied bool) {
	complete = true
	for _, u := range w.uses {
		for _, c := range u.checks {
			complete = complete && c.verdict != nil
			denied = denied || c.result() == Fail
		}
	}
	return complete, denied
}

func (s *State) remove(of *space, name string) *Write {
	have := of.orphans[name]
	have.writing = true
	of.orphans[name] = have
	s.writes++
	of.wrote = s.writes
	return &Write{Namespace: of.name, Name: name, Version: have.Version, space: of}
}

// rewrite gives the report of a workload, nil where the one that exists is right.
func (s *State) rewrite(w *workload, now time.Time) *Write {
	delete(w.space.dirty, w)
	report := s.report(w)
	want := read(report)
	if len(report.Results) == 0 && w.said == nil {
		s.change.forget(w)
		s.change.settle(now)
		return nil
	}
	if w.said != nil && w.said.content == want.content && !s.stale(*w.said, want.oldest) {
		s.change.forget(w)
		s.change.settle(now)
		return nil
	}
	w.writing = true
	s.writes++
	w.space.wrote = s.writes
	write := &Write{Namespace: w.Namespace, Name: report.Metadata.Name, Report: &report, workload: w, space: w.space}
	if len(report.Results) == 0 {
		write.Report = nil
	}
	if w.said != nil {
		write.Version = w.said.Version
		report.Metadata.ResourceVersion = w.said.Version
	}
	write.Event, write.Late = eventOf(w, report), w.tries >= eventTries
	return write
}

// stale tells whether a report is to be written for its times alone.
func (s *State) stale(have said, oldest int64) bool {
	return time.Duration(oldest-have.oldest)*time.Second > refreshAfter*s.options.Interval
}

// Wrote takes in what came of a write: the report as it is stored then, of which an API server may have dropped fields that it does
// not know; nil for one that was deleted, or not written.
func (s *State) Wrote(write *Write, outcome Outcome, stored *Report, now time.Time) {
	w := write.workload
	if w == nil {
		s.removed(write, outcome, now)
		return
	}
	w.writing = false
	if outcome != Written {
		if s.workloads[w.UID] == w {
			w.touch()
		}
		w.due = now.Add(min(firstWait<<min(w.tries, 10), lastWait))
		w.tries++
		return
	}
	w.tries = 0
	w.due = now.Add(writePause + writePauseOf*time.Duration(len(w.uses)))
	var have *said
	if write.Report != nil && stored != nil {
		wanted, read := read(*write.Report), read(*stored)
		wanted.Version, wanted.stored = read.Version, read.stored
		have = &wanted
	}
	if now := s.workloads[w.UID]; now != w { // it went meanwhile, and may have come back as its pod changed
		switch {
		case now != nil && now.space == w.space:
			now.said = have
			now.touch()
		case have != nil:
			w.space.orphans[write.Name] = *have
		}
		return
	}
	w.said = have
	if !w.space.dirty[w] {
		s.change.forget(w)
	}
	s.change.settle(now)
}

func (s *State) removed(write *Write, outcome Outcome, now time.Time) {
	have, known := write.space.orphans[write.Name]
	switch {
	case !known:
	case outcome == Written:
		delete(write.space.orphans, write.Name)
	default:
		have.writing, have.due = false, now.Add(lastWait/4)
		write.space.orphans[write.Name] = have
	}
}

// maxEventNote is the API server's bound on the text of an event, in bytes.
const maxEventNote = 1024

// eventOf gives the Event for a report that says another verdict than the one before it, or the first bad one.
func eventOf(w *workload, report Report) *Event {
	before, version := Pass, ""
	if w.said != nil {
		before, version = w.said.worst, w.said.Version
	}
	now := report.Summary.worst()
	if now == before || len(report.Results) == 0 {
		return nil
	}
	hash := sha256.Sum256([]byte(strings.Join([]string{w.UID, version, string(before), string(now)}, "\n")))
	first := report.Results[0]
	event := &Event{
		Name: fmt.Sprintf("%s.%x", strings.TrimRight(clip(w.Name, 180), "-."), hash[:16]),
		On:   w.Object, Warning: now == Fail || now == Error,
	}
	switch now {
	case Fail:
		event.Reason = "ImageDenied"
	case Error:
		event.Reason = "ImageNotTold"
	case Warn:
		event.Reason = "ImageMoved"
	case Skip:
		event.Reason = "ImageNotVerified"
	default:
		event.Reason = "ImageVerified"
	}
	event.Note = reason.Clip(fmt.Sprintf("%s, image %s, under trust policy %s: %s", first.Rule, first.Properties["image"], first.Policy, first.Message), maxEventNote-len("..."))
	return event
}

func clip(text string, most int) string { return text[:min(len(text), most)] }
