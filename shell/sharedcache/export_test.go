package sharedcache

// Idle tells that nothing is written in the background.
func (c *Cache) Idle() bool { return len(c.room) == 0 }
