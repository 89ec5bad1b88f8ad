package auditor

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
)

// Options of an auditor.
type Options struct {
	Interval      time.Duration // after which an image is verified again
	Except        []string      // namespaces that are not looked at
	MaxUses       int           // distinct images of workloads that are kept; 0 for DefaultMaxUses
	MaxOfRegistry int           // images of one registry that are verified at once; 0 for 1
	MaxOfOne      int           // images of one namespace that are verified at once; 0 for 1
}

// DefaultMaxUses is how many distinct images of workloads are kept. One takes about a kilobyte.
const DefaultMaxUses = 100_000

// Trust is what images are verified under at some moment.
type Trust struct {
	// Checks gives what is verified of the image of a workload.
	Checks func(audit.Use) []audit.Check
	// Findings tells how images of a workload stand.
	Findings func([]audit.Use, audit.Verdicts) []audit.Finding
	// Revision gives the revision of the trust under which a check is made, and the verdict where nothing has to be looked up.
	Revision func(audit.Check) (revision string, decided *audit.Verdict)
}

// State is what the auditor knows. Its methods must not be called at once. Make one with New.
type State struct {
	options Options
	trust   Trust
	trusted bool // trust is known

	pods    map[podKey]*pod
	objects map[string]Object        // owners, by UID
	owned   map[string]map[*pod]bool // pods, by the UID of an owner
	waiting map[*pod]bool            // for their owner
	leftOut map[*pod]bool            // some of their images are left out

	workloads map[string]*workload // by UID
	checks    map[audit.Check]*check
	spaces    map[string]*space
	uses      int
	busy      map[string]int // images that are being verified, by registry

	listed bool // the reports that exist are known
	picks  uint64
	turns  uint64 // counts the turns of namespaces, of those that verify
	writes uint64 // the same, of those that write
	change change
}

type podKey struct{ namespace, name string }

type useKey struct{ container, image, running string }

// use is an image of a workload.
type use struct {
	key    useKey
	pods   int
	checks []*check
}

// space is a namespace.
type space struct {
	name      string
	ignored   bool // it is not to be looked at, or is being deleted
	gone      bool // it was deleted
	uses      int
	checks    map[*check]int
	workloads map[*workload]bool
	dirty     map[*workload]bool // those whose report may have to be written
	orphans   map[string]said    // reports of workloads that there are not, by name
	busy      int                // images that are being verified
	turn      uint64             // its last turn to verify
	wrote     uint64             // its last turn to write
}

// workload is the topmost owner of pods.
type workload struct {
	Object
	space   *space
	pods    int
	uses    map[useKey]*use
	since   time.Time
	said    *said     // what its report says; nil for none
	writing bool      // its report is being written
	due     time.Time // before which its report is not written again
	tries   int       // to write it, that failed in a row
}

// check is an image under a trust policy.
type check struct {
	audit.Check
	registry string // "" for an image that cannot be parsed
	users    map[*workload]int

	verdict  *audit.Verdict // nil before the first
	revision string         // of the trust it was made under
	at       time.Time      // when it was made
	wanted   string         // revision of the trust of now
	due      time.Time      // when it is to be made
	urgent   bool           // a change of trust affects it
	busy     bool           // it is being made
	failures int            // in a row
}

// New makes the state of an auditor that has seen nothing yet.
func New(options Options) *State {
	options.MaxUses = cmp.Or(options.MaxUses, DefaultMaxUses)
	options.MaxOfRegistry, options.MaxOfOne = max(1, options.MaxOfRegistry), max(1, options.MaxOfOne)
	return &State{
		options: options,
		pods:    map[podKey]*pod{}, objects: map[string]Object{}, owned: map[string]map[*pod]bool{},
		waiting: map[*pod]bool{}, leftOut: map[*pod]bool{},
		workloads: map[string]*workload{}, checks: map[audit.Check]*check{}, spaces: map[string]*space{}, busy: map[string]int{},
	}
}

// space gives a namespace, known or not.
func (s *State) space(name string) *space {
	of := s.spaces[name]
	if of == nil {
		of = &space{
			name: name, ignored: slices.Contains(s.options.Except, name), turn: s.turns, wrote: s.writes,
			checks: map[*check]int{}, workloads: map[*workload]bool{}, dirty: map[*workload]bool{}, orphans: map[string]said{},
		}
		s.spaces[name] = of
	}
	return of
}

// Namespace takes in a namespace. Of one that is being deleted, or was, all reports go.
func (s *State) Namespace(name string, ends bool, now time.Time) {
	of := s.space(name)
	of.gone = false
	ignored := ends || slices.Contains(s.options.Except, name)
	if of.ignored == ignored {
		return
	}
	of.ignored = ignored
	s.resolveWithin(name, now)
}

// NamespaceGone forgets a namespace that was deleted, when the last of its reports is gone.
func (s *State) NamespaceGone(name string, now time.Time) {
	of := s.space(name)
	of.ignored, of.gone = true, true
	s.resolveWithin(name, now)
}

func (s *State) resolveWithin(name string, now time.Time) {
	var within []*pod
	for key, p := range s.pods {
		if key.namespace == name {
			within = append(within, p)
		}
	}
	slices.SortFunc(within, comparePods)
	for _, p := range within {
		s.resolve(p, now)
	}
}

func sortedPods(pods map[*pod]bool) []*pod {
	sorted := make([]*pod, 0, len(pods))
	for p := range pods {
		sorted = append(sorted, p)
	}
	slices.SortFunc(sorted, comparePods)
	return sorted
}

func comparePods(a, b *pod) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// Shares of the room for images.
const (
	shareOfRoom = 3   // how many times what a namespace takes must be left
	reserve     = 5   // one part in so many is for namespaces that take little
	little      = 500 // which is less than one part in so many
)

// hasRoom tells whether one more image of a pod's namespace is kept: one alone gets a fifth of all room, and however many take what
// they can get, the reserve is left for others.
func (s *State) hasRoom(p *pod) bool {
	most, takes := s.options.MaxUses, s.space(p.Namespace).uses
	return s.uses < most && (takes < max(1, most/little) || shareOfRoom*takes < most-most/reserve-s.uses)
}

func (s *State) newWorkload(of Object, now time.Time) *workload {
	w := &workload{Object: of, space: s.space(of.Namespace), uses: map[useKey]*use{}, since: now}
	s.workloads[of.UID] = w
	w.space.workloads[w] = true
	if have, exists := w.space.orphans[reportName(of.UID)]; exists {
		delete(w.space.orphans, reportName(of.UID))
		w.said = &have
	}
	return w
}

// removeWorkload forgets a workload of which nothing runs. Its report is deleted.
func (s *State) removeWorkload(w *workload, now time.Time) {
	delete(s.workloads, w.UID)
	delete(w.space.workloads, w)
	delete(w.space.dirty, w)
	if w.said != nil {
		orphan := *w.said
		orphan.due = now
		w.space.orphans[reportName(w.UID)] = orphan
	}
	s.change.forget(w)
}

// touch has the report of a workload looked at.
func (w *workload) touch() { w.space.dirty[w] = true }

// demand sets up what is verified of an image.
func (s *State) demand(w *workload, u *use, now time.Time) {
	if !s.trusted {
		return
	}
	for _, wanted := range s.trust.Checks(w.use(u)) {
		c := s.checks[wanted]
		if c == nil {
			c = &check{Check: wanted, users: map[*workload]int{}, due: now}
			if ref, err := image.Parse(wanted.Image); err == nil {
				c.registry = ref.Registry
			}
			s.checks[wanted] = c
			s.revise(c, now)
		}
		c.users[w]++
		w.space.checks[c]++
		u.checks = append(u.checks, c)
	}
}

// release takes a workload off a check, which goes with the last of them.
func (s *State) release(w *workload, c *check) {
	if c.users[w]--; c.users[w] == 0 {
		delete(c.users, w)
	}
	if w.space.checks[c]--; w.space.checks[c] == 0 {
		delete(w.space.checks, c)
	}
	if len(c.users) == 0 {
		delete(s.checks, c.Check)
		s.change.done(c)
	}
}

// use gives an image of a workload as an audit has it.
func (w *workload) use(u *use) audit.Use {
	return audit.Use{
		Workload:  audit.Workload{Namespace: w.Namespace, Kind: w.Kind, Name: w.Name},
		Container: u.key.container, Image: u.key.image, Running: u.key.running, Pods: u.pods,
	}
}

// Trust takes in the trust of now. What it affects, by revision, is verified anew at once, and nothing else.
func (s *State) Trust(trust Trust, now time.Time) {
	s.trust, s.trusted = trust, true
	s.change.begin(now)
	before := map[audit.Check]*check{}
	for wanted, c := range s.checks {
		before[wanted] = c
	}
	for _, w := range s.sortedWorkloads() {
		for _, u := range w.uses {
			had := u.checks
			u.checks = nil
			s.demand(w, u, now)
			verified := slices.ContainsFunc(had, func(c *check) bool { return c.verdict != nil })
			for _, c := range u.checks {
				if verified && c.verdict == nil && !slices.Contains(had, c) { // another trust policy holds for it now
					c.urgent = true
					s.change.add(c)
				}
			}
			for _, c := range had {
				s.release(w, c)
			}
			if !slices.Equal(had, u.checks) {
				w.touch()
				s.change.report(w)
			}
		}
	}
	for wanted, c := range before {
		if s.checks[wanted] == c {
			s.revise(c, now)
		}
	}
	if s.listed {
		s.adoptAll()
	}
	s.change.settle(now)
}

func (s *State) sortedWorkloads() []*workload {
	sorted := make([]*workload, 0, len(s.workloads))
	for _, w := range s.workloads {
		sorted = append(sorted, w)
	}
	slices.SortFunc(sorted, func(a, b *workload) int { return strings.Compare(a.UID, b.UID) })
	return sorted
}

// revise holds a check against the trust of now.
func (s *State) revise(c *check, now time.Time) {
	revision, decided := s.trust.Revision(c.Check)
	if revision == c.wanted {
		return
	}
	c.wanted = revision
	switch {
	case decided != nil:
		s.judge(c, *decided, revision, now)
	case c.verdict != nil:
		c.urgent, c.due, c.failures = true, now, 0
		s.change.add(c)
	default:
		c.due, c.failures = now, 0
	}
}
