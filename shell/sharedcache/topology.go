package sharedcache

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Sentinels and nodes of a cluster say where servers are. They are asked here and not by the client's library: that takes in what they say in
// goroutines of its own, where half an address is a panic that ends the process, and has no bounds on how many nodes there are.

// Bounds on what is asked of them.
const (
	maxNodes      = 256             // of a cluster
	topologyFor   = 2 * time.Second // a cluster is not asked again before
	maxSlotRanges = 16384           // of a cluster; that many slots it has
)

// peer gives options of one server that tells where others are.
func peer(options *redis.UniversalOptions, address string) *redis.Options {
	return &redis.Options{
		Addr: address, Dialer: options.Dialer, Username: options.Username, CredentialsProviderContext: options.CredentialsProviderContext,
		DialTimeout: callTimeout, DialerRetries: 1, ReadTimeout: callTimeout, WriteTimeout: callTimeout, ContextTimeoutEnabled: true, MaxRetries: -1, Protocol: 2,
		DisableIdentity: true, PoolSize: 1, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// sentinels know the server by a name.
type sentinels struct {
	name    string
	options []*redis.Options // of each
	dial    func(ctx context.Context, network, address string) (net.Conn, error)

	mu   sync.Mutex
	next int // is asked first
}

// connect connects to the server that one of the sentinels names. Connections that are there stay with the server that they were made to, until it
// ends them, or says that it is a replica by now.
func (s *sentinels) connect(ctx context.Context, network, _ string) (conn net.Conn, err error) {
	s.mu.Lock()
	first := s.next
	s.mu.Unlock()
	for i := range s.options {
		asked := (first + i) % len(s.options)
		var address string
		if address, err = s.ask(ctx, s.options[asked]); err == nil {
			if conn, err = s.dial(ctx, network, address); err == nil {
				return conn, nil
			}
		}
		s.mu.Lock()
		s.next = (asked + 1) % len(s.options)
		s.mu.Unlock()
	}
	return nil, err
}

// ask asks a sentinel for its share of the time.
func (s *sentinels) ask(ctx context.Context, options *redis.Options) (address string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout/time.Duration(len(s.options)+1))
	defer cancel()
	sentinel := redis.NewSentinelClient(options)
	defer func() { _ = sentinel.Close() }() // its connection was used once
	answer, err := sentinel.GetMasterAddrByName(ctx, s.name).Result()
	switch {
	case err != nil:
		return "", fmt.Errorf("sentinel %s: %w", options.Addr, err)
	case len(answer) != 2:
		return "", fmt.Errorf("sentinel %s gives %d parts of an address", options.Addr, len(answer))
	}
	return net.JoinHostPort(answer[0], answer[1]), nil
}

// cluster knows which node has which slots.
type cluster struct {
	options []*redis.Options // of the nodes that the URL names

	mu    sync.Mutex
	slots []redis.ClusterSlot
	at    time.Time // when they were told
}

// locate asks the nodes one after the other, until one knows.
func (c *cluster) locate(ctx context.Context) (slots []redis.ClusterSlot, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.slots) > 0 && time.Since(c.at) < topologyFor {
		return c.slots, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for _, options := range c.options {
		if slots, err = askNode(ctx, options, callTimeout/time.Duration(len(c.options))); err == nil {
			c.slots, c.at = slots, time.Now()
			return slots, nil
		}
	}
	return nil, err
}

func askNode(ctx context.Context, options *redis.Options, limit time.Duration) (slots []redis.ClusterSlot, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	node := redis.NewClient(options)
	defer func() { _ = node.Close() }() // its connection was used once
	//lint:ignore SA1019 servers before Redis 7 know no shards
	err = recovered(func() (err error) { slots, err = node.ClusterSlots(ctx).Result(); return err })
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", options.Addr, err)
	}
	host, port, err := net.SplitHostPort(options.Addr)
	if err != nil {
		return nil, err
	}
	addresses := map[string]bool{}
	for _, slot := range slots {
		for i := range slot.Nodes {
			slot.Nodes[i].Addr = completed(slot.Nodes[i].Addr, host, port)
			addresses[slot.Nodes[i].Addr] = true
		}
	}
	if len(slots) == 0 || len(slots) > maxSlotRanges || len(addresses) > maxNodes {
		return nil, errors.New("the cluster has no slots, or too many nodes")
	}
	return slots, nil
}

// completed is the address of a node as another one told it: without what that does not know of itself, or as it sees itself.
func completed(address, host, port string) string {
	ofNode, portOfNode, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	loopback := func(host string) bool { return net.ParseIP(host).IsLoopback() }
	if ofNode == "" || loopback(ofNode) {
		ofNode = host
	}
	if loopback(ofNode) {
		ofNode = "localhost" // the library would take the address away
	}
	if portOfNode == "0" || portOfNode == "" {
		portOfNode = port
	}
	return net.JoinHostPort(ofNode, portOfNode)
}
