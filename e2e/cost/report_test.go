//go:build e2e

package cost

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
)

// phase is what was measured of one kind of admissions, in one turn or several.
type phase struct {
	waits    []time.Duration // of the caller, one by one
	together int             // admissions that were made several at once
	within   time.Duration   // the time that those took

	admissions, webhooks int              // of both: admissions, calls of webhooks
	requests             map[string]int   // of the registry, for both, by what they ask for
	webhookTime          time.Duration    // what the API server waited for webhooks, one by one
	processors           [3]time.Duration // processor time of API server, Kyverno and service for all admissions
}

// sum is what was measured of a way in all turns, with images of a kind.
func (w way) sum(images kind) phase { return sum(w.measured[images]) }

// sum is what was measured in some turns together.
func sum(turns []phase) phase {
	all := phase{requests: map[string]int{}}
	for _, p := range turns {
		all.waits = append(all.waits, p.waits...)
		all.together += p.together
		all.within += p.within
		all.admissions += p.admissions
		all.webhooks += p.webhooks
		all.webhookTime += p.webhookTime
		for i, time := range p.processors {
			all.processors[i] += time
		}
		for kind, count := range p.requests {
			all.requests[kind] += count
		}
	}
	return all
}

// asked is how often an admission asked the registry.
func (p phase) asked() float64 {
	count := 0
	for _, n := range p.requests {
		count += n
	}
	return float64(count) / float64(p.admissions)
}

// asks lists what an admission asked the registry for.
func (p phase) asks() string {
	var list []string
	for _, kind := range slices.Sorted(maps.Keys(p.requests)) {
		if count := float64(p.requests[kind]) / float64(p.admissions); count >= 0.05 {
			list = append(list, fmt.Sprintf("%.3g %s", count, kind))
		}
	}
	return cmp.Or(strings.Join(list, ", "), "-")
}

// kindOf tells what a request asks the registry for.
func kindOf(r registrytest.Request) string {
	part := regexp.MustCompile(`/(manifests|blobs|referrers)/(sha256:)?`).FindStringSubmatch(r.Path)
	switch {
	case part == nil:
		return r.Method + " " + r.Path
	case part[2] == "":
		return r.Method + " " + part[1] + " by tag"
	}
	return r.Method + " " + part[1]
}

func (p phase) mean() float64 {
	sum := time.Duration(0)
	for _, wait := range p.waits {
		sum += wait
	}
	return milliseconds(sum) / float64(len(p.waits))
}

func (p phase) quantile(q float64) float64 {
	sorted := slices.Sorted(slices.Values(p.waits))
	return milliseconds(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)])
}

// perAdmission gives the processor times of one admission.
func (p phase) perAdmission() string {
	var times [3]string
	for i, time := range p.processors {
		times[i] = fmt.Sprintf("%.2f", milliseconds(time)/float64(p.admissions))
	}
	return strings.Join(times[:], ", ")
}

func (p phase) median() float64 { return p.quantile(0.5) }

// rate is how many several at once are admitted in a second, and each the time for one of them, in milliseconds.
func (p phase) rate() float64 { return float64(p.together) / p.within.Seconds() }
func (p phase) each() float64 { return 1000 / p.rate() }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// checkCounts checks what does not depend on the machine.
func (w way) checkCounts(t *testing.T) {
	one := w.sum(kept)
	if one.webhooks != w.webhooks*one.admissions {
		t.Errorf("%s: %d calls of webhooks for %d admissions; want %d each", w.name, one.webhooks, one.admissions, w.webhooks)
	}
	if !w.ours() {
		return
	}
	if asked := one.asked(); asked > 0.2 { // the tag is looked up again after 10 s
		t.Errorf("%s: %.2f registry requests per admission of an image that is kept", w.name, asked)
	}
	if w.pinned {
		return
	}
	if asked := w.sum(known).asked(); asked > 1.2 { // on a slow machine each tag is looked up again
		t.Errorf("%s: %.2f registry requests per admission of an image that is known", w.name, asked)
	}
	want := 4.0
	if *tokens { // and one for the token of a repository that is new
		want++
	}
	if asked := w.sum(uncached).asked(); asked < want || asked > want+0.2 { // what the registry demands is asked again every five minutes
		t.Errorf("%s: %.2f registry requests per admission of an uncached image; want %.0f", w.name, asked, want)
	}
}

// figures are those in which ways are compared; less is better.
var figures = []struct {
	name   string
	images kind
	of     func(phase) float64
}{
	{"mean", kept, phase.mean},
	{"p50", kept, phase.median},
	{"p99", kept, func(p phase) float64 { return p.quantile(0.99) }},
	{fmt.Sprintf("time of one of %d at once", parallel), kept, phase.each},
	{"mean, known", known, phase.mean},
	{fmt.Sprintf("time of one of %d at once, known", parallel), known, phase.each},
	{"p50, uncached", uncached, phase.median},
	{fmt.Sprintf("time of one of %d at once, uncached", parallel), uncached, phase.each},
}

// ratios give, per figure, what a way takes of what a peer takes: in all turns together, and the median of the turns. What else the
// machine does in a turn meets both, so the median holds where a single stall decides a p99.
func (w way) ratios(peer way) (together, median []float64) {
	for _, figure := range figures {
		ours, theirs := w.measured[figure.images], peer.measured[figure.images]
		together = append(together, figure.of(sum(ours))/figure.of(sum(theirs)))
		var turns []float64
		for i := range ours {
			turns = append(turns, figure.of(ours[i])/figure.of(theirs[i]))
		}
		slices.Sort(turns)
		median = append(median, (turns[(len(turns)-1)/2]+turns[len(turns)/2])/2)
	}
	return together, median
}

// checkAhead checks that a way of ours is ahead of one of Kyverno's own in every figure: it is not where both ratios say so.
func (w way) checkAhead(t *testing.T, peer way) {
	together, median := w.ratios(peer)
	for i, figure := range figures {
		if together[i] >= 1 && median[i] >= 1 {
			t.Errorf("%s: %s, in ms, is %.2f times that of %s, and %.2f times in the median of the turns", w.name, figure.name, together[i], peer.name, median[i])
		}
	}
}

// row is one line of a table in Markdown.
func row(cells ...string) string { return "| " + strings.Join(cells, " | ") + " |\n" }

func head(columns ...string) string {
	return row(columns...) + strings.Repeat("|---", len(columns)) + "|\n"
}

// table prints the figures as Markdown.
func table(ways []way) string {
	rate := fmt.Sprintf("%d at once, per second", parallel)
	text := head("way", "webhooks, mean ms", "mean ms", "p50 ms", "p99 ms", rate, "registry requests",
		fmt.Sprintf("%d known in turn, mean ms", *samples), "known, "+rate, "registry requests",
		"uncached, p50 ms", "uncached, "+rate, "registry requests", "processor ms: API server, Kyverno, service")
	number := func(format string, value float64) string { return fmt.Sprintf(format, value) }
	for _, w := range ways {
		c, others := w.sum(kept), slices.Repeat([]string{"-"}, 6)
		if k, u := w.sum(known), w.sum(uncached); u.admissions > 0 {
			others = []string{
				number("%.2f", k.mean()), number("%.0f", k.rate()), number("%.1f", k.asked()),
				number("%.2f", u.median()), number("%.0f", u.rate()), number("%.1f", u.asked()),
			}
		}
		text += row(slices.Concat([]string{
			w.name, number("%.2f", milliseconds(c.webhookTime)/float64(len(c.waits))), number("%.2f", c.mean()), number("%.2f", c.median()), number("%.2f", c.quantile(0.99)),
			number("%.0f", c.rate()), number("%.1f", c.asked()),
		}, others, []string{c.perAdmission()})...)
	}
	return text
}

// requestTable prints what an admission asks the registry for.
func requestTable(ways []way) string {
	text := head("way", "registry requests, kept", "known", "uncached")
	for _, w := range ways {
		if w.verifies {
			text += row(w.name, w.sum(kept).asks(), w.sum(known).asks(), w.sum(uncached).asks())
		}
	}
	return text
}

// ratioTable prints what our ways take of what Kyverno's own take.
func ratioTable(ways []way) string {
	columns := []string{"way", "of"}
	for _, figure := range figures {
		columns = append(columns, figure.name)
	}
	text := head(columns...)
	for _, w := range ways {
		for _, peer := range ways {
			if !w.shipped || !peer.peer() {
				continue
			}
			cells := []string{w.name, peer.name}
			together, median := w.ratios(peer)
			for i := range figures {
				cells = append(cells, fmt.Sprintf("%.2f (%.2f)", together[i], median[i]))
			}
			text += row(cells...)
		}
	}
	return text
}
