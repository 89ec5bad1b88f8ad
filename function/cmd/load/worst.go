package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// What the service is held against: as many callers at once, and Go's memory limit as the manifests set it.
const (
	worstCallers = 64
	worstLimit   = "512MiB"
	worstMemory  = 768 << 20 // bytes that a service may have at any time: what the manifests' limit leaves beside plugins
	maxBody      = 4 << 20   // bytes, of the service's own setting
)

// worst is a small or allowed input that costs much. Whoever finds another one adds it here.
type worst struct {
	name string
	body string
}

// worstInputs are those that are known. Each is sent by many callers at once.
func (w *world) worstInputs(ctx context.Context) ([]worst, error) {
	image, err := w.push(ctx, "worst", false)
	if err != nil {
		return nil, err
	}
	long := strings.Repeat("a", 120_000)
	attested, err := w.worstAttested(ctx, fmt.Sprintf(`{"licence":"MIT","long":%q,"list":[%s[1,2]%s]}`, long, strings.Repeat("[", 30), strings.Repeat("]", 30)))
	if err != nil {
		return nil, err
	}
	condition := func(key, value string) string { return demanding(attested, key, value) }
	var flattenings strings.Builder
	flattenings.WriteString("long")
	for range 22 {
		fmt.Fprintf(&flattenings, " | [[@,@][],[@,@][]][]")
	}
	artifacts, err := w.worstArtifacts(ctx)
	if err != nil {
		return nil, err
	}
	var keys strings.Builder
	for i := range 33_000 { // which is within the bound on values
		fmt.Fprintf(&keys, `"%d":{"":1},`, i)
	}
	return append([]worst{
		{"an ordinary pod", pod(image)},
		{"a body of as many keys as may be, and of a long text", fill(`{"object":{"kind":"Pod","spec":{"containers":[{"name":"c","image":"`+image+`"}]},"x":{`+keys.String()+`"":1},"y":"`, `\u00e9`, `"}}`)},
		{"a body of empty objects", fill(`{"object":{"kind":"Pod","spec":{"containers":[{"name":"c","image":"`+image+`"}]},"x":[`, `{},`, `{}]}}`)},
		{"a body of objects with a field", fill(`{"object":{"kind":"Pod","spec":{"containers":[{"name":"c","image":"`+image+`"}]},"x":[`, `{"a":{}},`, `{}]}}`)},
		{"a body of numbers", fill(`{"object":{"kind":"Pod","spec":{"containers":[{"name":"c","image":"`+image+`"}]},"x":[`, `1,`, `1]}}`)},
		{"a body of escapes", fill(`{"object":{"kind":"Pod","metadata":{"annotations":{"a":"`, `\u00e9`, `"}},"spec":{"containers":[{"name":"c","image":"`+image+`"}]}}}`)},
		{"a body of one image", fill(`{"object":{"kind":"Pod","spec":{"containers":[`, `{"image":"`+image+`"},`, `{"image":"`+image+`"}]}}}`)},
		{"a body of images that are refused", fill(`{"object":{"kind":"Pod","spec":{"containers":[`, `{"image":"!"},`, `{"image":"!"}]}}}`)},
		{"a body of images, under a trust policy that does not exist", fill(`{"trustPolicy":"`+strings.Repeat("x", 255)+`","object":{"kind":"Pod","spec":{"containers":[`, `{"image":"a"},`, `{"image":"a"}]}}}`)},
		{"1.5 MB of patterns, and as much of images", fillTo(3<<20, fillTo(3<<19, `{"imageReferences":[`, `"*a*b*c*d*e*f*",`, `"*z"],"object":{"kind":"Pod","spec":{"containers":[`), `{"image":"`+image+`"},`, `{"image":"`+image+`"}]}}}`)},
		{"a pattern of 30 asterisks", condition("{{ long }}", strings.Repeat("*a", 30)+"*b")},
		{"a random text of a pattern that never ends", condition("{{ random('(a*)*') }}", "x")},
		{"a list of texts, many times", condition("{{ "+strings.Repeat("to_string([@,", 20)+"long"+strings.Repeat("])", 20)+" }}", "x")},
		{"22 flattenings", condition("{{ "+flattenings.String()+" }}", "x")},
	}, artifacts...), nil
}

func (w *world) worstAttested(ctx context.Context, payload string) (string, error) {
	image, err := w.scenario.PushSigned(ctx, "worst-attested", w.scenario.Signer(), &signingtest.SignRequest{})
	if err != nil {
		return "", err
	}
	_, err = w.scenario.Attest(ctx, "worst-attested", image, sbomType, []byte(payload), w.scenario.Signer())
	return w.scenario.Reference("worst-attested"), err
}

// fill makes a body as large as may be of something again and again.
func fill(before, again, after string) string { return fillTo(maxBody, before, again, after) }

func fillTo(size int, before, again, after string) string {
	return before + strings.Repeat(again, (size-len(before)-len(after))/len(again)) + after
}

// measureWorst sends each of the worst inputs alone, and from many callers at once, to a service of its own with Go's
// memory limit. It fails where a request is not answered, the service is no more, or it took too much memory.
func (w *world) measureWorst(ctx context.Context) error {
	inputs, err := w.worstInputs(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("\nWorst known inputs, alone and from %d callers at once, GOMEMLIMIT=%s\n\n", worstCallers, worstLimit)
	fmt.Println("| input | KiB | answer KiB | alone ms | all answered after s | longest s | processor s | memory at most MiB | answers |\n|---|---|---|---|---|---|---|---|---|")
	var failed []error
	for _, input := range inputs {
		if err := w.measureOneWorst(ctx, input); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", input.name, err))
		}
	}
	return errors.Join(failed...)
}

func (w *world) measureOneWorst(ctx context.Context, input worst) error {
	p, err := w.serve(ctx, "--cacheEnabled=false")
	if err != nil {
		return err
	}
	defer p.stop()
	began := time.Now()
	_, answer, err := p.post(ctx, input.body)
	if err != nil {
		return fmt.Errorf("alone: %w", err)
	}
	alone := time.Since(began)
	before, err := p.used()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var longest time.Duration
	statuses := map[int]int{}
	var unanswered error
	var callers sync.WaitGroup
	began = time.Now()
	for range worstCallers {
		callers.Go(func() {
			status, _, err := p.post(ctx, input.body)
			mu.Lock()
			defer mu.Unlock()
			statuses[status]++
			longest = max(longest, time.Since(began))
			unanswered = errors.Join(unanswered, err)
		})
	}
	callers.Wait()
	all := time.Since(began)
	if status, _, err := p.get("/health/liveness"); err != nil || status != http.StatusOK {
		return fmt.Errorf("the service is no more: %d %w", status, err)
	}
	after, err := p.used()
	if err != nil {
		return err
	}
	var counts []string
	for _, status := range slices.Sorted(maps.Keys(statuses)) {
		counts = append(counts, fmt.Sprintf("%d x %d", statuses[status], status))
	}
	fmt.Printf("| %s | %d | %d | %s | %.2f | %.2f | %.1f | %d | %s |\n", input.name, len(input.body)>>10, len(answer)>>10, millis(alone), all.Seconds(), longest.Seconds(),
		(after.processor - before.processor).Seconds(), after.peak>>20, strings.Join(counts, ", "))
	if after.peak > worstMemory {
		unanswered = errors.Join(unanswered, fmt.Errorf("it took %d MiB", after.peak>>20))
	}
	return unanswered
}

// used is what a process has used of the machine so far.
type used struct {
	peak      int64 // of its memory; bytes
	processor time.Duration
}

func (p *process) used() (used, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		return used{}, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
	if err != nil {
		return used{}, err
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kibibytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		return used{}, err
	}
	_, fields, _ := strings.Cut(string(stat), ") ")
	var ticks int64 // of a hundredth of a second
	for _, field := range strings.Fields(fields)[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return used{}, err
		}
		ticks += n
	}
	return used{kibibytes << 10, time.Duration(ticks) * 10 * time.Millisecond}, nil
}
