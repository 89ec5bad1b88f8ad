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

// The load for worst inputs, and the bounds on memory.
const (
	worstCallers = 64
	worstLimit   = "512MiB"
	worstMemory  = 768 << 20 // bytes that a service may have at any time: the memory limit of the manifests without the share of plugins
	maxBody      = 4 << 20   // bytes; the default of --maxBodyBytes
)

// worst is an input within all bounds that costs much. New ones are added here.
type worst struct {
	name string
	body string
}

// worstInputs are the known worst inputs.
func (fx *fixture) worstInputs(ctx context.Context) ([]worst, error) {
	image, err := fx.push(ctx, "worst", false)
	if err != nil {
		return nil, err
	}
	long := strings.Repeat("a", 120_000)
	attested, err := fx.worstAttested(ctx, fmt.Sprintf(`{"licence":"MIT","long":%q,"list":[%s[1,2]%s]}`, long, strings.Repeat("[", 30), strings.Repeat("]", 30)))
	if err != nil {
		return nil, err
	}
	condition := func(key, value string) string { return demanding(attested, key, value) }
	var flattenings strings.Builder
	flattenings.WriteString("long")
	for range 22 {
		fmt.Fprintf(&flattenings, " | [[@,@][],[@,@][]][]")
	}
	artifacts, err := fx.worstArtifacts(ctx)
	if err != nil {
		return nil, err
	}
	var keys strings.Builder
	for i := range 33_000 { // just within the bound on values
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

func (fx *fixture) worstAttested(ctx context.Context, payload string) (string, error) {
	image, err := fx.scenario.PushSigned(ctx, "worst-attested", fx.scenario.Signer(), &signingtest.SignRequest{})
	if err != nil {
		return "", err
	}
	_, err = fx.scenario.Attest(ctx, "worst-attested", image, sbomType, []byte(payload), fx.scenario.Signer())
	return fx.scenario.Reference("worst-attested"), err
}

// fill makes a body of the largest allowed size by repeating a text.
func fill(before, again, after string) string { return fillTo(maxBody, before, again, after) }

func fillTo(size int, before, again, after string) string {
	return before + strings.Repeat(again, (size-len(before)-len(after))/len(again)) + after
}

// measureWorst sends each of the worst inputs to a service of its own, once alone and then from many callers at once. It
// fails when a request is not answered, or the service ends or takes too much memory.
func (fx *fixture) measureWorst(ctx context.Context) error {
	inputs, err := fx.worstInputs(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("\nWorst known inputs, alone and from %d callers at once, GOMEMLIMIT=%s\n\n", worstCallers, worstLimit)
	fmt.Println("| input | KiB | answer KiB | alone ms | all answered after s | longest s | processor s | memory at most MiB | answers |\n|---|---|---|---|---|---|---|---|---|")
	var failed []error
	for _, input := range inputs {
		if err := fx.measureOneWorst(ctx, input); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", input.name, err))
		}
	}
	return errors.Join(failed...)
}

func (fx *fixture) measureOneWorst(ctx context.Context, input worst) error {
	p, err := fx.serve(ctx, "--cacheEnabled=false")
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

// used is the memory and processor time that a process has used so far.
type used struct {
	peak      int64 // of resident memory; bytes
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
	var ticks int64 // hundredths of a second
	for _, field := range strings.Fields(fields)[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return used{}, err
		}
		ticks += n
	}
	return used{kibibytes << 10, time.Duration(ticks) * 10 * time.Millisecond}, nil
}
