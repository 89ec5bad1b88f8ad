package sharedcache

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Server says where the server is. It holds no password.
type Server struct {
	Addresses    []string // host:port, of one server, of sentinels, or of some nodes of a cluster
	TLS          bool
	User         string // of the server's access control list; "" for its default user
	Database     int
	Sentinel     string // the name under which sentinels know the server; "" for no sentinels
	SentinelAuth bool   // sentinels are asked with user and password too
	Cluster      bool
}

const defaultPort = "6379"

// ParseServer reads a URL:
//
//	redis://[user@]host[:port][/database]       one server; rediss:// is the same over TLS
//	redis://host?addr=host2:26379&sentinel=name  sentinels, which know it by a name; sentinelAuth=true to authenticate to them too
//	redis://host?addr=host2:6379&cluster=true    a cluster
//
// A password in it is refused: command lines are seen by others.
func ParseServer(text string) (Server, error) {
	parsed, err := url.Parse(text)
	if err != nil {
		return Server{}, errors.New("sharedCache is no URL, such as redis://cache.example:6379") // the error would repeat it
	}
	if _, set := parsed.User.Password(); set {
		return Server{}, errors.New("sharedCache has a password in its URL, where others can see it; name a file in sharedCachePasswordFile")
	}
	s := Server{TLS: parsed.Scheme == "rediss", User: parsed.User.Username()}
	if parsed.Scheme != "redis" && parsed.Scheme != "rediss" {
		return Server{}, fmt.Errorf("sharedCache: the scheme is %q; it must be redis, or rediss for TLS", parsed.Scheme)
	}
	if name := strings.TrimPrefix(parsed.Path, "/"); name != "" {
		if s.Database, err = strconv.Atoi(name); err != nil || s.Database < 0 {
			return Server{}, fmt.Errorf("sharedCache: %q is no number of a database", name)
		}
	}
	if err := s.readQuery(parsed.Query()); err != nil {
		return Server{}, err
	}
	for _, address := range append([]string{parsed.Host}, parsed.Query()["addr"]...) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			host, port = strings.Trim(address, "[]"), defaultPort
		}
		if host == "" {
			return Server{}, fmt.Errorf("sharedCache: %q has no host", address)
		}
		s.Addresses = append(s.Addresses, net.JoinHostPort(host, port))
	}
	return s, s.validate()
}

func (s *Server) readQuery(query url.Values) (err error) {
	for name, values := range query {
		if name != "addr" && len(values) > 1 {
			return fmt.Errorf("sharedCache: %s is set twice", name)
		}
		switch name {
		case "addr":
		case "sentinel":
			s.Sentinel = values[0]
		case "sentinelAuth":
			s.SentinelAuth, err = strconv.ParseBool(values[0])
		case "cluster":
			s.Cluster, err = strconv.ParseBool(values[0])
		default:
			err = errors.New("it is unknown; addr, sentinel, sentinelAuth and cluster are known")
		}
		if err != nil {
			return fmt.Errorf("sharedCache: %s: %w", name, err)
		}
	}
	return nil
}

func (s Server) validate() error {
	switch {
	case s.Cluster && s.Sentinel != "":
		return errors.New("sharedCache names sentinels and a cluster; leave one of them out")
	case s.Cluster && s.Database != 0:
		return errors.New("sharedCache: a cluster has no databases but 0")
	case len(s.Addresses) > 1 && !s.Cluster && s.Sentinel == "":
		return errors.New("sharedCache: several addresses are those of sentinels (sentinel=name) or of a cluster (cluster=true)")
	}
	return nil
}

// named tells whether an address is one of those in the URL.
func (s Server) named(address string) bool { return slices.Contains(s.Addresses, address) }
