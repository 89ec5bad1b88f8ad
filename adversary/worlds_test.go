package adversary_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nirmata/kyverno-notation-venafi/adversary/oracle"
	"github.com/nirmata/kyverno-notation-venafi/adversary/world"
)

var (
	worlds  = flag.Int("worlds", 300, "worlds to make")
	seed    = flag.Uint64("seed", 1, "seed of the first world; the others follow")
	keepOn  = flag.Int("disagreements", 20, "disagreements that are told in full")
	drawn   = flag.String("drawn", "", "regular expression on what was drawn; other worlds are passed over")
	answers = flag.String("answers", "", "file for the answers in worlds whose registry is honest, to compare two versions of the service")
)

const (
	batch   = 100 // worlds that share a service
	workers = 8   // worlds that are asked at once
)

// TestWorlds holds the service against the oracle in generated worlds.
func TestWorlds(t *testing.T) {
	if testing.Short() {
		*worlds = min(*worlds, 50)
	}
	began, tally := time.Now(), &tally{}
	for first := 0; first < *worlds; first += batch {
		t.Run(fmt.Sprintf("from %d", *seed+uint64(first)), func(t *testing.T) {
			runBatch(t, *seed+uint64(first), min(batch, *worlds-first), tally)
		})
	}
	tally.report(t)
	if *answers != "" {
		slices.Sort(tally.answers)
		if err := os.WriteFile(*answers, []byte(strings.Join(tally.answers, "")), 0o644); err != nil {
			t.Error(err)
		}
	}
	if *drawn == "" && *worlds >= 50 && (tally.admitted*10 < tally.requests || tally.denied*10 < tally.requests) {
		t.Error("under a tenth of the requests is admitted, or denied: what is drawn decides nothing")
	}
	t.Logf("%d worlds in %s: %d requests, %d admitted, %d denied, %d failed (%d of them late), %d refused; %d disagreements",
		*worlds, time.Since(began).Round(time.Second), tally.requests, tally.admitted, tally.denied, tally.failed, tally.late, tally.refused, len(tally.found))
}

// runBatch asks one service about several worlds at once.
func runBatch(t *testing.T, from uint64, n int, tally *tally) {
	t.Helper()
	wanted, trust := regexp.MustCompile(*drawn), map[string][]byte{}
	var made []*world.World
	var hosts []string
	for seed := from; seed < from+uint64(n); seed++ {
		w, err := world.New(seed, shared.signers)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !wanted.MatchString(w.String()) {
			continue
		}
		made, trust[w.Name] = append(made, w), w.TrustFile()
		hosts = append(hosts, hostsOf(w)...)
		shared.server.Add(w)
		defer shared.server.Remove(w)
	}
	s := startService(t, trust, hosts, nil)
	var group errgroup.Group
	group.SetLimit(workers)
	for _, w := range made {
		group.Go(func() error {
			for i := range w.Requests {
				tally.add(w, i, s.ask("/checkimages", w.Requests[i].Body))
			}
			return nil
		})
	}
	_ = group.Wait() // the functions give no errors
}

// disagreement is one between service and oracle.
type disagreement struct {
	world *world.World
	kind  string
	text  string
}

// tally counts what came of the requests.
type tally struct {
	mu                                          sync.Mutex
	requests, admitted, denied, failed, refused int
	late                                        int // of those that failed, for which time ran out
	found                                       []disagreement
	answers                                     []string
}

// varies is what is another each time that a world is made: signatures, and with them digests, and times.
var varies = regexp.MustCompile(`sha256:[0-9a-f]{64}|\d{4}-\d\d-\d\dT[0-9:]+Z`)

func (c *tally) add(w *world.World, i int, a answer) {
	found := compare(w, w.Requests[i], a)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	switch {
	case a.Status == http.StatusOK:
		c.admitted++
	case a.Status == http.StatusNotAcceptable:
		c.denied++
	case a.Status == http.StatusBadRequest:
		c.refused++
	default:
		c.failed++
	}
	if a.Status == http.StatusGatewayTimeout {
		c.late++
	}
	if *answers != "" && w.Honest() {
		c.answers = append(c.answers, fmt.Sprintf("%d %d %d %s\n", w.Seed, i, a.Status, strings.ReplaceAll(varies.ReplaceAllString(a.Text, "..."), "\n", " ")))
	}
	for _, d := range found {
		d.world, d.text = w, fmt.Sprintf("request %d: %s\n    answer %d %.1500s", i, d.text, a.Status, a.Text)
		c.found = append(c.found, d)
	}
}

// report tells of the disagreements, some of them in full.
func (c *tally) report(t *testing.T) {
	t.Helper()
	slices.SortStableFunc(c.found, func(a, b disagreement) int { return strings.Compare(a.kind, b.kind) })
	kinds := map[string][]uint64{}
	for i, d := range c.found {
		if known := kinds[d.kind]; len(known) == 0 || known[len(known)-1] != d.world.Seed {
			kinds[d.kind] = append(known, d.world.Seed)
		}
		if i < *keepOn {
			t.Errorf("%s: %s\n%s", d.kind, d.text, d.world)
		}
	}
	for kind, seeds := range kinds {
		t.Errorf("%s: seeds %v", kind, seeds)
	}
}

// compare holds an answer against the oracle. Soundness: what is admitted, the oracle admits, with the same digest.
// Completeness, where nobody misbehaves and time does not run out: what the oracle admits is admitted, and what it does not
// is denied, which is not a failure.
func compare(w *world.World, request world.Request, a answer) (found []disagreement) {
	judgements, refused := w.Case.Judge(request.Asked)
	disagree := func(kind, format string, args ...any) {
		found = append(found, disagreement{kind: kind, text: fmt.Sprintf(format, args...)})
	}
	all := oracle.Yes
	for _, j := range judgements {
		all = min(all, j.Opinion)
	}
	switch {
	case a.Status != http.StatusOK && len(a.Results) == 0:
	case refused != "":
		if a.Status == http.StatusOK {
			disagree("hole", "admitted, and it should be refused since %s", refused)
		}
	default:
		for _, j := range judgements {
			if text := unsound(j, a); text != "" {
				disagree("hole", "%s %s: %s", j.Pointer, j.Image, text)
			}
		}
	}
	if !w.Honest() {
		return found
	}
	switch {
	case a.Status == http.StatusGatewayTimeout, a.Status == http.StatusServiceUnavailable: // of a machine that is busy, and no verdict
	case refused == "" && all == oracle.Yes && request.Plain && a.Status != http.StatusOK:
		disagree("denied in vain", "all of it should be admitted")
	case a.Status >= http.StatusInternalServerError:
		disagree("failed in vain", "nobody failed")
	}
	return found
}

// unsound says what is wrong with the admission of an image; "" where nothing is, or where it was not admitted.
func unsound(j oracle.Judgement, a answer) string {
	i := slices.IndexFunc(a.Results, func(r result) bool { return r.Path == j.Pointer })
	switch {
	case i < 0 && a.Status == http.StatusOK:
		return unsoundUnpatched(j)
	case i < 0 || a.Status != http.StatusOK && !a.Results[i].Verified:
		return ""
	}
	written := a.Results[i].Image
	if j.Opinion == oracle.No {
		return "admitted as " + written + ", but " + j.Why
	}
	if j.Unpinned {
		return ""
	}
	ref, ok := oracle.ParseReference(written)
	if !ok || ref.Digest == "" || !slices.Contains(j.Pinned, ref.Name+"@"+ref.Digest) {
		return fmt.Sprintf("pinned to %q; want one of %q", written, j.Pinned)
	}
	return ""
}

func unsoundUnpatched(j oracle.Judgement) string {
	if j.Opinion == oracle.No {
		return "admitted as it is, but " + j.Why
	}
	ref, _ := oracle.ParseReference(j.Image)
	if !j.Unpinned && !slices.Contains(j.Pinned, ref.Name+"@"+ref.Digest) {
		return fmt.Sprintf("not pinned; want one of %q", j.Pinned)
	}
	return ""
}

// TestRegressions asks again in worlds in which the service was wrong once. When the generators draw otherwise a seed
// loses its meaning: the tests of the parts that were mended hold what these show.
func TestRegressions(t *testing.T) {
	for sentence, seed := range map[string]uint64{
		"a page of a list was lost, and with it the attestation that decides": 68,
		"a pattern that matches nothing selected nothing":                     29,
		"two statements had one scope in two spellings":                       127,
		"integers in a list were no numbers of a payload":                     209,
		"an image volume in a template of a custom kind was not seen":         308,
		"an envelope that is not there was the registry's fault":              144,
		"the ID of a local image was the name of one at Docker Hub":           801,
		"a registry with zeros before its port slipped by the patterns":       137,
	} {
		t.Run(sentence, func(t *testing.T) {
			tally := &tally{}
			runBatch(t, seed, 1, tally)
			tally.report(t)
		})
	}
}
