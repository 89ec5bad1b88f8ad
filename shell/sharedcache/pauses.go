package sharedcache

import (
	"context"
	"strconv"
	"sync"
	"time"
)

const (
	pauseInterval = time.Second // after which the server is asked again of a registry that is in use
	maxPauses     = 1024        // registries of which is known what others told; whoever names an image chooses the registry
	maxAsking     = 16          // registries that the server is asked of at once
)

// Pauses tells between replicas until when registries want no requests, by notes. It asks the server in the background: what others
// told is known with the next request, a moment after. Whoever controls the server can withhold a pause, or show one that another
// replica told and that is not over yet.
type Pauses struct {
	cache *Cache

	mu     sync.Mutex
	known  map[string]*pause
	asking int
}

// pause is what others told of a registry.
type pause struct {
	until time.Time // zero for nothing
	asked time.Time // when the server was asked last
}

// Pauses are those of a cache.
func (c *Cache) Pauses() *Pauses { return &Pauses{cache: c, known: map[string]*pause{}} }

// Tell tells the others until when a registry wants no requests. It returns at once.
func (p *Pauses) Tell(registry string, until time.Time) {
	p.cache.PutNote(topic(registry), strconv.AppendInt(nil, until.UnixMilli(), 10), until)
}

// Told gives the last that others told of a registry; zero for nothing. It returns at once.
func (p *Pauses) Told(registry string) (until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cache.Now()
	told, ok := p.known[registry]
	if !ok {
		p.forget()
		told = &pause{}
		p.known[registry] = told
	}
	if now.Sub(told.asked) >= pauseInterval && p.asking < maxAsking {
		told.asked = now
		p.asking++
		go p.ask(registry)
	}
	return told.until
}

// forget makes room for a registry, by one whose state the server still has.
func (p *Pauses) forget() {
	for name := range p.known {
		if len(p.known) < maxPauses {
			return
		}
		delete(p.known, name)
	}
}

func (p *Pauses) ask(registry string) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	until := time.Time{}
	if text, ok := p.cache.Note(ctx, topic(registry)); ok {
		if millis, err := strconv.ParseInt(string(text), 10, 64); err == nil { // a replica with the same keys wrote it
			until = time.UnixMilli(millis)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asking--
	if told, ok := p.known[registry]; ok {
		told.until = until
	}
}

func topic(registry string) string { return "registry/" + registry }
