package function

import (
	"context"
	"strings"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"github.com/samber/lo"
	"golang.org/x/sync/errgroup"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// prewarm verifies the images that were verified last again after trust has changed, so that the next caller finds them in
// the cache. A nil prewarm does nothing.
type prewarm struct {
	recent  *ttlcache.Cache[string, remembered]
	changed chan struct{} // has one element while a change of trust was not acted on
	gather  func(context.Context, core.Request)
}

// remembered is a request for one image.
type remembered struct {
	request core.Request
	weight  int // bytes
}

// Bounds on prewarming, which must not slow down the requests of callers.
const (
	prewarmAtOnce = 2
	prewarmSettle = 200 * time.Millisecond // to collect changes that come together
	prewarmFor    = 24 * time.Hour         // how long an image is remembered after its last request
	prewarmBytes  = 16 << 20               // of attestation rules, counted once for each image, since callers choose how long they are
)

func newPrewarm(most int, gather func(context.Context, core.Request)) *prewarm {
	if most == 0 {
		return nil
	}
	return &prewarm{
		recent: ttlcache.New(ttlcache.WithCapacity[string, remembered](uint64(most)), ttlcache.WithTTL[string, remembered](prewarmFor),
			ttlcache.WithMaxCost(prewarmBytes, func(item ttlcache.CostItem[string, remembered]) uint64 { return uint64(item.Value.weight) })),
		changed: make(chan struct{}, 1),
		gather:  gather,
	}
}

// remember adds the images of a request that were verified, by their digests, with the attestation rules of the request.
func (p *prewarm) remember(request core.Request, policy string, verdict core.Verdict) {
	if p == nil {
		return
	}
	var demands strings.Builder
	for _, rule := range request.Attestations {
		demands.WriteString(" " + rule.ImageReference)
		for _, demand := range rule.Types {
			demands.WriteString(" " + demand.Identity())
		}
	}
	for _, result := range verdict.Results {
		if result.Code != reason.Verified {
			continue
		}
		key := policy + " " + result.Image + demands.String()
		if p.recent.Get(key) != nil { // which makes it the latest
			continue
		}
		ref, err := image.Parse(result.Image)
		if err != nil {
			continue
		}
		weight := core.Request{Attestations: request.Attestations}.Weight() + demands.Len()
		p.recent.Set(key, remembered{core.Request{
			Images:       []core.Image{{Name: result.Name, Kind: result.Kind, Written: result.Image, Ref: ref}},
			TrustPolicy:  policy,
			Attestations: request.Attestations,
		}, weight}, ttlcache.DefaultTTL)
	}
}

// trustChanged has run prewarm the images. It does not block.
func (p *prewarm) trustChanged() {
	if p == nil {
		return
	}
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// run prewarms after every change of trust until ctx ends.
func (p *prewarm) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(prewarmSettle):
		}
		p.all(ctx)
	}
}

// all verifies the remembered images, until trust changes again.
func (p *prewarm) all(ctx context.Context) {
	requests := lo.MapToSlice(p.recent.Items(), func(_ string, item *ttlcache.Item[string, remembered]) core.Request { return item.Value().request })
	var group errgroup.Group
	group.SetLimit(prewarmAtOnce)
	for _, request := range requests {
		if ctx.Err() != nil || len(p.changed) > 0 {
			break
		}
		group.Go(func() error {
			p.gather(ctx, request)
			return nil
		})
	}
	_ = group.Wait() // the functions return no errors
}
