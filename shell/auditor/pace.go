package auditor

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
)

const (
	// unsaidPause is for how long a registry is left alone that has enough and does not say for how long.
	unsaidPause = 10 * time.Second
	// maxPaces is how many registries are remembered; whoever names an image chooses the registry.
	maxPaces = 4096
)

// Pace bounds the requests to each registry by a budget of its own. It is a registry.Pace.
type Pace struct {
	budget func() auditor.Budget // a new one

	mu      sync.Mutex
	budgets map[string]*auditor.Budget // by registry; those that would be no different from new ones are left out at times
}

// NewPace makes a pace of so many requests a minute to one registry.
func NewPace(perMinute int) *Pace {
	return newPace(func() auditor.Budget { return auditor.NewBudget(perMinute) })
}

func newPace(budget func() auditor.Budget) *Pace {
	return &Pace{budget: budget, budgets: map[string]*auditor.Budget{}}
}

// errBudget is told where no request may be sent in time.
var errBudget = errors.New("the auditor's budget of requests to this registry is used up, or the registry asked to be left alone; it is tried again")

// Wait is part of registry.Pace.
func (p *Pace) Wait(ctx context.Context, registry string) error {
	p.mu.Lock()
	now := time.Now()
	budget := p.of(registry, now)
	wait := budget.Wait(now)
	if deadline, ok := ctx.Deadline(); ok && deadline.Sub(now) < wait {
		p.mu.Unlock()
		return errBudget
	}
	budget.Reserve(now)
	p.mu.Unlock()
	if wait == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return nil
	}
}

// Pause is part of registry.Pace.
func (p *Pace) Pause(registry string, pause time.Duration) {
	if pause == 0 {
		pause = unsaidPause
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.of(registry, now).Pause(now, pause)
}

// Ready gives the time until a request may be sent to a registry; 0 for now.
func (p *Pace) Ready(registry string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if budget, known := p.budgets[registry]; known {
		return budget.Wait(time.Now())
	}
	return 0
}

func (p *Pace) of(registry string, now time.Time) *auditor.Budget {
	budget, known := p.budgets[registry]
	if known {
		return budget
	}
	if len(p.budgets) >= maxPaces {
		for name, other := range p.budgets {
			if other.Idle(now) {
				delete(p.budgets, name)
			}
		}
	}
	made := p.budget()
	p.budgets[registry] = &made
	return &made
}
