package tracing

import (
	"fmt"
	"strconv"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
)

// maxTraces is how many requests a second are traced, whoever asks for it: what the collector has to take is bounded.
const maxTraces = 100

// limited has no more traces recorded than the limit allows.
type limited struct {
	sdk.Sampler
	limit  *rate.Limiter
	counts *counts
}

// ShouldSample is part of sdk.Sampler. Within a trace all is recorded, since nothing begins there unless its request is.
func (l limited) ShouldSample(p sdk.SamplingParameters) sdk.SamplingResult {
	if parent := trace.SpanContextFromContext(p.ParentContext); parent.IsValid() && !parent.IsRemote() {
		return sdk.AlwaysSample().ShouldSample(p)
	}
	result := l.Sampler.ShouldSample(p)
	if result.Decision == sdk.RecordAndSample && !l.limit.Allow() {
		l.counts.limited.Add(1)
		return sdk.NeverSample().ShouldSample(p)
	}
	return result
}

// samplerOf gives the sampler of OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG.
func samplerOf(name, argument string) (sdk.Sampler, error) {
	ratio := 1.0
	if name == "traceidratio" || name == "parentbased_traceidratio" {
		if argument != "" {
			var err error
			if ratio, err = strconv.ParseFloat(argument, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
				return nil, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG is %q; it must be from 0 to 1", argument)
			}
		}
	}
	switch name {
	case "", "parentbased_always_on":
		return sdk.ParentBased(sdk.AlwaysSample()), nil
	case "parentbased_always_off":
		return sdk.ParentBased(sdk.NeverSample()), nil
	case "parentbased_traceidratio":
		return sdk.ParentBased(sdk.TraceIDRatioBased(ratio)), nil
	case "always_on":
		return sdk.AlwaysSample(), nil
	case "always_off":
		return sdk.NeverSample(), nil
	case "traceidratio":
		return sdk.TraceIDRatioBased(ratio), nil
	}
	return nil, fmt.Errorf("OTEL_TRACES_SAMPLER is %q; it must be always_on, always_off or traceidratio, or one of them after parentbased_", name)
}
