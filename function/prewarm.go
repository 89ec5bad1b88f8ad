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

// prewarm verifies what was verified last anew when trust has changed, so that the next to ask need not wait. A nil
// one does nothing.
type prewarm struct {
	recent  *ttlcache.Cache[string, remembered]
	changed chan struct{} // holds a change of trust that was not acted on yet
	gather  func(context.Context, core.Request)
}

// remembered is a request for one image.
type remembered struct {
	request core.Request
	weight  int // bytes
}

// Bounds on warming up: it must not get in the way of those who wait.
const (
	prewarmAtOnce = 2
	prewarmSettle = 200 * time.Millisecond // for changes that come together
	prewarmFor    = 24 * time.Hour         // after it was last asked for, an image is forgotten
	prewarmBytes  = 16 << 20               // of demands for attestations, which whoever asks may make as long as a body, counted for each image
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

// remember notes the images of a request that were verified, by their digests.
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
	weight := core.Request{Attestations: request.Attestations}.Weight() + demands.Len()
	for _, result := range verdict.Results {
		ref, err := image.Parse(result.Image)
		if result.Code != reason.Verified || err != nil {
			continue
		}
		p.recent.Set(policy+" "+result.Image+demands.String(), remembered{core.Request{
			Images:       []core.Image{{Name: result.Name, Kind: result.Kind, Written: result.Image, Ref: ref}},
			TrustPolicy:  policy,
			Attestations: request.Attestations,
		}, weight}, ttlcache.DefaultTTL)
	}
}

// trustChanged says that it is time. It does not wait.
func (p *prewarm) trustChanged() {
	if p == nil {
		return
	}
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// run warms up after every change until ctx ends.
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

// all verifies what is remembered, until trust changes again.
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
	_ = group.Wait() // the functions give no errors
}
