package sharedcache

// Idle tells that nothing is written in the background.
func (c *Cache) Idle() bool { return len(c.room) == 0 }

// Known is the number of registries of which is remembered what others told.
func Known(p *Pauses) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.known)
}
