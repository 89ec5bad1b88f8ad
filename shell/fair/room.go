package fair

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Room shares a bounded number of bytes between tenants. No tenant gets more than its share, nor waits for the common
// room with more, so that however long one stays it holds up the others by no more than that. Make one with NewRoom.
type Room struct {
	share  int64
	common *semaphore.Weighted

	mu   sync.Mutex
	lots map[string]*lot // of the tenants that are in, or wait
}

// lot is what one tenant may have.
type lot struct {
	*semaphore.Weighted
	users int // guarded by Room.mu
}

// NewRoom makes a room of a size with a share for each tenant, both in bytes.
func NewRoom(size, share int64) *Room {
	return &Room{share: min(size, share), common: semaphore.NewWeighted(size), lots: map[string]*lot{}}
}

// Take waits until a tenant can have n bytes; of more than its share it gets that. give gives them back, and has to be
// called once. The error is that of ctx.
func (r *Room) Take(ctx context.Context, tenant string, n int64) (give func(), err error) {
	n = min(n, r.share)
	own := r.join(tenant)
	if err := own.Acquire(ctx, n); err != nil {
		r.leave(tenant, own)
		return nil, err
	}
	if err := r.common.Acquire(ctx, n); err != nil {
		own.Release(n)
		r.leave(tenant, own)
		return nil, err
	}
	return r.giving(tenant, own, n), nil
}

// TryTake is Take, if nobody has to wait for it.
func (r *Room) TryTake(tenant string, n int64) (give func(), ok bool) {
	n = min(n, r.share)
	own := r.join(tenant)
	if own.TryAcquire(n) {
		if r.common.TryAcquire(n) {
			return r.giving(tenant, own, n), true
		}
		own.Release(n)
	}
	r.leave(tenant, own)
	return nil, false
}

func (r *Room) giving(tenant string, own *lot, n int64) func() {
	return func() {
		r.common.Release(n)
		own.Release(n)
		r.leave(tenant, own)
	}
}

func (r *Room) join(tenant string) *lot {
	r.mu.Lock()
	defer r.mu.Unlock()
	own, ok := r.lots[tenant]
	if !ok {
		own = &lot{Weighted: semaphore.NewWeighted(r.share)}
		r.lots[tenant] = own
	}
	own.users++
	return own
}

func (r *Room) leave(tenant string, own *lot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if own.users--; own.users == 0 {
		delete(r.lots, tenant)
	}
}
