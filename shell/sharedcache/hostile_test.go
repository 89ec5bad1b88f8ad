package sharedcache_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/egress"
	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache/redistest"
)

// endures has a replica look for an image again and again: each time it gets the facts that it works out itself, and it seldom waits for
// longer than it may for the server. What is logged stays short.
func endures(t *testing.T, reader *replica, lookup verification.Lookup) {
	t.Helper()
	var waits []time.Duration
	for range 40 {
		fact := reader.facts(t.Context(), lookup, "CN=acme", 0)
		if fact == nil || fact.Signature.Signer != "CN=acme" {
			t.Fatalf("the facts are %+v", fact)
		}
		waits = append(waits, time.Duration(reader.took.Load()))
		await(t, reader.Idle)
	}
	slices.Sort(waits)
	if waits[20] > sharedcache.DefaultWait+slack || waits[39] > atMost { // what a busy machine adds is not the server's
		t.Errorf("verifications waited %s", waits)
	}
	if warned := reader.log.count("level=WARN"); warned > 2 {
		t.Errorf("%d warnings:\n%s", warned, reader.log.text.String())
	}
}

// to is an answer to some commands.
func to(answer []byte, commands ...string) redistest.Answer {
	return func(command []string, _ func() []byte) ([]byte, bool) {
		return answer, slices.ContainsFunc(commands, func(name string) bool { return strings.EqualFold(name, command[0]) })
	}
}

// TestHostileCommands has servers that are honest but for one command or one kind of answer, as they are while they start, as replicas,
// or when somebody took them over.
func TestHostileCommands(t *testing.T) {
	answers := map[string]redistest.Answer{}
	for _, command := range []string{"hello", "get", "set"} {
		answers[command+" hangs"] = to(redistest.Hang, command)
		answers[command+" ends the connection"] = to(redistest.Cut(nil), command)
		answers[command+" is a list without an end"] = to([]byte("*3\r\n$1\r\nx\r\n"), command)
	}
	answers["the greeting is a text"] = to([]byte("+OK\r\n"), "hello")
	answers["the greeting is a large map"] = to([]byte("%30000\r\n"), "hello")
	answers["the greeting is refused, and so is all without it"] = to([]byte("-NOAUTH Authentication required.\r\n"), "hello", "get", "set", "del")
	for _, said := range []string{
		"LOADING Redis is loading the dataset in memory", "BUSY Redis is busy running a script", "MASTERDOWN Link with MASTER is down", "CLUSTERDOWN The cluster is down",
		"TRYAGAIN Multiple keys request during rehashing of slot", "NOPERM this user has no permissions to run the command", "WRONGTYPE Operation against a key",
		"ERR max number of clients reached", "MOVED 1 127.0.0.1:1", "ASK 1 127.0.0.1:1", "MOVED x", "ASK", "MOVED 99999999999999999999 :", "",
	} {
		answers[fmt.Sprintf("all is answered with %.20q", said)] = to([]byte("-"+said+"\r\n"), "get", "set", "del")
	}
	for _, raw := range []string{
		">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nx\r\n", ">1\r\n$7\r\nmessage\r\n", ">0\r\n", ">30000\r\n", "~2\r\n:1\r\n:1\r\n", "%1\r\n$1\r\nx\r\n$1\r\nx\r\n",
		"|1\r\n$1\r\nx\r\n$1\r\nx\r\n$1\r\nx\r\n", "$?\r\n;4\r\nabcd\r\n;0\r\n", "*?\r\n", "(" + strings.Repeat("9", 3000) + "\r\n", ",inf\r\n", "#t\r\n", "_\r\n", "=5\r\ntxt:x\r\n",
		"=1\r\nx\r\n", "!5\r\nERR x\r\n", "!0\r\n\r\n", "$-1\n", "$0\r\nxx", "\r\n", "$+5\r\nabcde\r\n", "*-1\r\n", "*0\r\n", ":99999999999999999999\r\n", "-\r\n",
	} {
		answers[fmt.Sprintf("all is answered with %.30q", raw)] = to([]byte(raw), "get", "set", "del")
		answers[fmt.Sprintf("before each answer comes %.30q", raw)] = func(_ []string, honest func() []byte) ([]byte, bool) { return append([]byte(raw), honest()...), true }
	}
	for sentence, answer := range answers {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			server := hostile(t)
			server.Set(answer)
			reader := newReplica(t, open(t, "redis://"+server.Address, nil), func(o *sharedcache.Options) {})
			endures(t, reader, lookupOf("app"))
		})
	}
}

// TestServersThatTakeNoValuesAreRead by everybody, as they were: a replica, a server that cannot write to its disk, and a user who may not.
func TestServersThatTakeNoValuesAreRead(t *testing.T) {
	for _, said := range []string{
		"READONLY You can't write against a read only replica.", "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
		"NOPERM this user has no permissions to run the 'set' command", "NOREPLICAS Not enough good replicas to write.",
	} {
		server := hostile(t)
		writer := newReplica(t, open(t, "redis://"+server.Address, nil), patiently)
		writer.facts(t.Context(), lookupOf("app"), "writer", 0)
		await(t, func() bool { return writer.Count(sharedcache.Written) == 1 })
		server.Set(to([]byte("-"+said+"\r\n"), "set", "del"))
		reader := newReplica(t, open(t, "redis://"+server.Address, nil), patiently)
		for i := range 30 {
			reader.facts(t.Context(), lookupOf(fmt.Sprint("new-", i)), "reader", 0)
		}
		await(t, func() bool { return reader.Count(sharedcache.Refused) == 30 })
		if fact := reader.facts(t.Context(), lookupOf("app"), "reader", 0); fact.Signature.Signer != "writer" || !reader.Answers() || reader.log.count("level=WARN") != 1 {
			t.Errorf("%s: %+v\n%s", said, fact, reader.log.text.String())
		}
	}
}

// TestRealUserWhoMayOnlyRead has what a real server says to one.
func TestRealUserWhoMayOnlyRead(t *testing.T) {
	dir := t.TempDir()
	users, password := filepath.Join(dir, "users.acl"), filepath.Join(dir, "password")
	write(t, users, "user default off\nuser knv on >correct-horse ~knv:* +get +set +del +hello +select\nuser reads on >correct-horse ~knv:* +get +hello +select\n")
	write(t, password, "correct-horse\n")
	server := real(t, "--aclfile", users)
	with := func(o *sharedcache.RedisOptions) { o.PasswordFile = password }
	writer := newReplica(t, open(t, "redis://knv@"+server.Address, with), patiently)
	reader := newReplica(t, open(t, "redis://reads@"+server.Address, with), patiently)
	writer.facts(t.Context(), lookupOf("app"), "writer", 0)
	await(t, func() bool { return writer.Count(sharedcache.Written) == 1 })
	for i := range 30 {
		reader.facts(t.Context(), lookupOf(fmt.Sprint("new-", i)), "reader", 0)
	}
	await(t, func() bool { return reader.Count(sharedcache.Refused) == 30 })
	if fact := reader.facts(t.Context(), lookupOf("app"), "reader", 0); fact.Signature.Signer != "writer" || !reader.Answers() || reader.log.count("level=WARN") != 1 {
		t.Errorf("%+v\n%s", fact, reader.log.text.String())
	}
}

// TestMadeUpLeasesAndNotesAreCounted, since they show as well as entries do that somebody else writes to the server.
func TestMadeUpLeasesAndNotesAreCounted(t *testing.T) {
	server := hostile(t)
	server.Set(func(command []string, _ func() []byte) ([]byte, bool) {
		return redistest.Text(bytes.Repeat([]byte{1}, 600)), strings.EqualFold(command[0], "get") && strings.HasSuffix(command[1], ":lease")
	})
	reader := newReplica(t, open(t, "redis://"+server.Address, nil), patiently)
	reader.facts(t.Context(), lookupOf("app"), "reader", 0)
	if reader.Count(sharedcache.False) != 1 || reader.log.count("no replica wrote") != 1 {
		t.Errorf("%d false values after a lease:\n%s", reader.Count(sharedcache.False), reader.log.text.String())
	}
	server.Set(to(redistest.Text([]byte("text")), "get"))
	if text, ok := reader.Note(t.Context(), "topic"); ok || reader.Count(sharedcache.False) != 2 {
		t.Errorf("%d false values after the note %q", reader.Count(sharedcache.False), text)
	}
}

// lyingCluster answers as a node of a cluster, all of whose slots are at an address; move is what it says to commands.
func lyingCluster(address, move string) redistest.Answer {
	host, port, _ := net.SplitHostPort(address)
	return func(command []string, _ func() []byte) ([]byte, bool) {
		switch strings.ToLower(command[0]) {
		case "cluster":
			return fmt.Appendf(nil, "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$%d\r\n%s\r\n:%s\r\n$2\r\nid\r\n", len(host), host, port), true
		case "asking", "readonly":
			return []byte("+OK\r\n"), true
		case "get", "set", "del":
			if move != "" {
				return fmt.Appendf(nil, "-%s %s\r\n", move, address), true
			}
		}
		return nil, false
	}
}

// TestLyingClusters send the client round and round, or to where it must not go.
func TestLyingClusters(t *testing.T) {
	for sentence, tt := range map[string]struct {
		move    string
		address func(own, trap string) string
		asks    int // most commands that one look may cost, of all servers
	}{
		"moved to itself for ever":     {"MOVED 1", func(own, _ string) string { return own }, 20},
		"asked of itself for ever":     {"ASK 1", func(own, _ string) string { return own }, 20},
		"slots of another":             {"", func(_, trap string) string { return trap }, 0},
		"moved to another":             {"MOVED 1", func(_, trap string) string { return trap }, 0},
		"asked of another":             {"ASK 1", func(_, trap string) string { return trap }, 0},
		"slots of another, by name":    {"", func(_, trap string) string { return strings.Replace(trap, "127.0.0.1", "localhost", 1) }, 0},
		"moved to another, by name":    {"MOVED 1", func(_, trap string) string { return strings.Replace(trap, "127.0.0.1", "localhost", 1) }, 0},
		"moved to a cloud's metadata":  {"MOVED 1", func(string, string) string { return "169.254.169.254:80" }, 0},
		"slots of no address":          {"", func(string, string) string { return ":0" }, 0},
		"moved to an address in IPv6":  {"MOVED 1", func(_, trap string) string { return strings.Replace(trap, "127.0.0.1", "[::ffff:127.0.0.1]", 1) }, 0},
		"moved to an address, decimal": {"MOVED 1", func(_, trap string) string { return strings.Replace(trap, "127.0.0.1", "2130706433", 1) }, 0},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			server, trap := hostile(t), hostile(t)
			server.Set(lyingCluster(tt.address(server.Address, trap.Address), tt.move))
			reader := newReplica(t, open(t, "redis://"+server.Address+"?cluster=true", func(o *sharedcache.RedisOptions) { o.Egress = egress.Rule{} }), nil)
			endures(t, reader, lookupOf("app"))
			if n := trap.Asked("HELLO") + trap.Asked("GET") + trap.Asked("CLUSTER"); n != 0 {
				t.Errorf("the address that the cluster named was asked %d times", n)
			}
			if n := server.Asked("GET") + server.Asked("SET") + server.Asked("ASKING"); tt.asks > 0 && n > 40*tt.asks {
				t.Errorf("it was asked %d times", n)
			}
		})
	}
}

// TestLyingSentinels name addresses by name, further sentinels, and nothing that can be read.
func TestLyingSentinels(t *testing.T) {
	list := func(texts ...string) string {
		out := fmt.Sprintf("*%d\r\n", len(texts))
		for _, text := range texts {
			out += fmt.Sprintf("$%d\r\n%s\r\n", len(text), text)
		}
		return out
	}
	for sentence, answer := range map[string]func(own, port string) (main, others string){
		"a server by name":        func(_, port string) (string, string) { return list("localhost", port), "*0\r\n" },
		"a server at no port":     func(string, string) (string, string) { return list("127.0.0.1", ""), "*0\r\n" },
		"a server without a name": func(_, port string) (string, string) { return list("", port), "*0\r\n" },
		"half of a server":        func(string, string) (string, string) { return list("127.0.0.1"), "*0\r\n" },
		"a number":                func(string, string) (string, string) { return ":1\r\n", ":1\r\n" },
		"a cloud's metadata":      func(string, string) (string, string) { return list("169.254.169.254", "80"), "*0\r\n" },
		"itself":                  func(own, _ string) (string, string) { return list("127.0.0.1", own), "*0\r\n" },
		"further sentinels": func(_, port string) (string, string) {
			return "*-1\r\n", "*1\r\n" + list("name", "x", "ip", "localhost", "port", port)
		},
		"further sentinels, by half": func(string, string) (string, string) { return "*-1\r\n", "*2\r\n" + list("ip") + list() },
		"ten thousand sentinels": func(_, port string) (string, string) {
			return "*-1\r\n", "*4000\r\n" + strings.Repeat(list("ip", "10.255.255.1", "port", port), 4000)
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			server, trap := hostile(t), hostile(t)
			_, own, _ := net.SplitHostPort(server.Address)
			_, port, _ := net.SplitHostPort(trap.Address)
			server.Set(func(command []string, _ func() []byte) ([]byte, bool) {
				if !strings.EqualFold(command[0], "sentinel") {
					return nil, false
				}
				main, others := answer(own, port)
				if strings.EqualFold(command[1], "sentinels") {
					return []byte(others), true
				}
				return []byte(main), true
			})
			reader := newReplica(t, open(t, "redis://"+server.Address+"?sentinel=main", func(o *sharedcache.RedisOptions) { o.Egress = egress.Rule{} }), nil)
			if sentence == "itself" { // which is named in the URL, and answers as a server does
				reader.facts(t.Context(), lookupOf("app"), "CN=acme", 0)
				return
			}
			endures(t, reader, lookupOf("app"))
			if n := trap.Asked("HELLO") + trap.Asked("GET") + trap.Asked("SENTINEL"); n != 0 {
				t.Errorf("the address that the sentinel named was asked %d times", n)
			}
		})
	}
}

// cutting is a connection that ends after some bytes were written to it.
type cutting struct {
	net.Conn
	left *atomic.Int64
}

func (c cutting) Write(text []byte) (int, error) {
	if left := c.left.Add(-int64(len(text))); left < 0 {
		_, _ = c.Conn.Write(text[:max(0, int64(len(text))+left)]) // a part of a record
		_ = c.Conn.Close()
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(text)
}

// behindTLS puts a server behind TLS, of which each connection ends after some bytes.
func behindTLS(t *testing.T, server, certificateFile, keyFile string, bytes int64) (address string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(certificateFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			inner, err := net.Dial("tcp", server)
			if err != nil {
				_ = conn.Close()
				continue
			}
			left := &atomic.Int64{}
			left.Store(bytes)
			secure := tls.Server(cutting{conn, left}, &tls.Config{Certificates: []tls.Certificate{pair}})
			serving.Go(func() { _, _ = io.Copy(inner, secure); _ = inner.Close(); _ = conn.Close() })
			serving.Go(func() { _, _ = io.Copy(secure, inner); _ = inner.Close(); _ = conn.Close() })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); serving.Wait() })
	return listener.Addr().String()
}

// TestTLSThatEndsAnywhere ends connections after any number of bytes: in the handshake, within a record, between records.
func TestTLSThatEndsAnywhere(t *testing.T) {
	certificateFile, keyFile := certificate(t)
	for _, bytes := range []int64{0, 3, 100, 700, 1000, 1200, 1300, 1350, 1400, 1450, 1500, 1600, 1800, 2000, 2300, 2600, 3000} {
		t.Run(fmt.Sprint(bytes, " bytes"), func(t *testing.T) {
			t.Parallel()
			server := hostile(t)
			writer := newReplica(t, open(t, "redis://"+server.Address, nil), patiently)
			writer.facts(t.Context(), lookupOf("app"), "CN=acme", 0)
			await(t, func() bool { return writer.Count(sharedcache.Written) == 1 })
			redis := open(t, "rediss://"+behindTLS(t, server.Address, certificateFile, keyFile, bytes), func(o *sharedcache.RedisOptions) { o.CAFile = certificateFile })
			endures(t, newReplica(t, redis, nil), lookupOf("app"))
		})
	}
}

// TestClustersHaveBounds on how many nodes a client is made for.
func TestClustersHaveBounds(t *testing.T) {
	server := hostile(t)
	nodes := "*1\r\n*502\r\n:0\r\n:16383\r\n"
	for i := range 500 {
		ip := fmt.Sprintf("10.0.%d.%d", i/250, 1+i%250)
		nodes += fmt.Sprintf("*3\r\n$%d\r\n%s\r\n:6379\r\n$2\r\nid\r\n", len(ip), ip)
	}
	server.Set(to([]byte(nodes), "cluster"))
	reader := newReplica(t, open(t, "redis://"+server.Address+"?cluster=true", nil), nil)
	endures(t, reader, lookupOf("app"))
	if reader.log.count("too many nodes") == 0 {
		t.Errorf("it is not said:\n%s", reader.log.text.String())
	}
}
