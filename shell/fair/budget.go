package fair

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// ByteBudget shares a bounded number of bytes between tenants. Each tenant has a budget of its own, and acquires from it
// before it waits for the common budget: so a tenant that holds its bytes for long holds up others by no more than that.
// Make one with NewByteBudget.
type ByteBudget struct {
	perTenant int64
	common    *semaphore.Weighted

	mu      sync.Mutex
	tenants map[string]*tenantBudget // those that hold bytes, or wait for some, and up to idleTenants others
}

// idleTenants is how many tenants may keep their budget while they hold nothing, so that it is not made for each request.
const idleTenants = 16

// tenantBudget is the budget of one tenant.
type tenantBudget struct {
	*semaphore.Weighted
	users int // guarded by ByteBudget.mu
}

// NewByteBudget makes a budget of size bytes, of which each tenant may hold perTenant.
func NewByteBudget(size, perTenant int64) *ByteBudget {
	return &ByteBudget{perTenant: min(size, perTenant), common: semaphore.NewWeighted(size), tenants: map[string]*tenantBudget{}}
}

// Acquire waits until a tenant can have n bytes; a request for more than the tenant's budget gets that budget. The caller
// calls release once. The error is that of ctx.
func (b *ByteBudget) Acquire(ctx context.Context, tenant string, n int64) (release func(), err error) {
	n = min(n, b.perTenant)
	own := b.join(tenant)
	if err := own.Acquire(ctx, n); err != nil {
		b.leave(tenant, own)
		return nil, err
	}
	if err := b.common.Acquire(ctx, n); err != nil {
		own.Release(n)
		b.leave(tenant, own)
		return nil, err
	}
	return b.releaser(tenant, own, n), nil
}

// TryAcquire is Acquire without waiting; not ok when it would have to wait.
func (b *ByteBudget) TryAcquire(tenant string, n int64) (release func(), ok bool) {
	n = min(n, b.perTenant)
	own := b.join(tenant)
	if own.TryAcquire(n) {
		if b.common.TryAcquire(n) {
			return b.releaser(tenant, own, n), true
		}
		own.Release(n)
	}
	b.leave(tenant, own)
	return nil, false
}

func (b *ByteBudget) releaser(tenant string, own *tenantBudget, n int64) func() {
	return func() {
		b.common.Release(n)
		own.Release(n)
		b.leave(tenant, own)
	}
}

func (b *ByteBudget) join(tenant string) *tenantBudget {
	b.mu.Lock()
	defer b.mu.Unlock()
	own, ok := b.tenants[tenant]
	if !ok {
		own = &tenantBudget{Weighted: semaphore.NewWeighted(b.perTenant)}
		b.tenants[tenant] = own
	}
	own.users++
	return own
}

func (b *ByteBudget) leave(tenant string, own *tenantBudget) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if own.users--; own.users == 0 && len(b.tenants) > idleTenants {
		delete(b.tenants, tenant)
	}
}
