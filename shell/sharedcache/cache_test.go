package sharedcache_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	core "github.com/nirmata/kyverno-notation-venafi/core/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/egress"
	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache"
	"github.com/nirmata/kyverno-notation-venafi/shell/sharedcache/redistest"
)

func TestMain(m *testing.M) {
	if address := os.Getenv(stoppedAt); address != "" {
		looksWhenStopped(address)
		return
	}
	goleak.VerifyTestMain(m)
}

const secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// slack is what a busy machine adds to a wait, which is exact in virtual time.
const slack = 500 * time.Millisecond

// atMost is far above all that the cache waits for on purpose, and far below what a server that does not answer would make of it.
const atMost = 2 * time.Second

var task = verification.Task{Policy: "tp", Statement: trust.Statement{Level: "strict"}, Limits: verification.Limits{Keep: time.Hour, KeepTags: 10 * time.Second}}

// lookupOf is that of the facts of an image.
func lookupOf(repository string) verification.Lookup {
	return verification.Lookup{Kind: verification.Conclude, Repository: repository, Subject: "sha256:" + repository, Trust: verification.Trust{Policy: "tp", Revision: "r1"}}
}

// replica is a second level as one replica has it.
type replica struct {
	*sharedcache.Cache
	log  *lines
	work atomic.Int64 // verifications
	took atomic.Int64 // the last look, nanoseconds
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(some []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(some)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

func newReplica(t *testing.T, store sharedcache.Store, change func(*sharedcache.Options)) *replica {
	t.Helper()
	ring, err := core.NewKeyring([]string{secret}, "build 1")
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{log: &lines{}}
	options := sharedcache.Options{Store: store, Keys: func() core.Keyring { return ring }, Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if change != nil {
		change(&options)
	}
	r.Cache = sharedcache.New(options)
	t.Cleanup(r.Close)
	return r
}

// facts gives the facts of an image as a replica has them: those of another one, or those that it works out, which takes some time. The
// signer tells who worked them out.
func (r *replica) facts(ctx context.Context, lookup verification.Lookup, signer string, takes time.Duration) (fact *verification.Fact) {
	began := time.Now()
	settle := r.Look(ctx, r.Budget(), lookup, func(entry core.Entry) bool {
		_, counts := entry.Counts(task, lookup, r.Now())
		if counts {
			fact = entry.Fact
		}
		return counts
	})
	r.took.Store(int64(time.Since(began)))
	if settle == nil {
		return fact
	}
	r.work.Add(1)
	from := r.Now()
	time.Sleep(takes)
	fact = &verification.Fact{Digest: lookup.Subject, Signature: verification.SignatureFact{Verified: true, Signer: signer}}
	if signer == "" {
		fact.Signature = verification.SignatureFact{}
	}
	entry, _ := core.NewEntry(task, lookup, nil, fact, from)
	settle(&entry)
	return fact
}

// open connects to a server.
func open(t *testing.T, url string, change func(*sharedcache.RedisOptions)) *sharedcache.Redis {
	t.Helper()
	server, err := sharedcache.ParseServer(url)
	if err != nil {
		t.Fatal(err)
	}
	options := sharedcache.RedisOptions{Server: server, Egress: egress.Rule{AllowLoopback: true}}
	if change != nil {
		change(&options)
	}
	redis, err := sharedcache.OpenRedis(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	return redis
}

// patiently lets slow machines take their time where that is not what is tested.
func patiently(o *sharedcache.Options) { o.Wait = 2 * time.Second }

// hostile is a server with whatever answers.
func hostile(t *testing.T) *redistest.Hostile {
	t.Helper()
	server, err := redistest.NewHostile()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

func TestOneReplicaWorksAndTheOthersWait(t *testing.T) {
	server := hostile(t)
	var all []*replica
	for range 20 {
		all = append(all, newReplica(t, open(t, "redis://"+server.Address, nil), patiently))
	}
	const images = 5
	var running sync.WaitGroup
	for i, r := range all {
		for image := range images {
			running.Go(func() {
				fact := r.facts(t.Context(), lookupOf(fmt.Sprint("app-", image)), fmt.Sprint("replica ", i), 100*time.Millisecond)
				if fact == nil || !fact.Signature.Verified {
					t.Errorf("replica %d: %+v", i, fact)
				}
			})
		}
	}
	running.Wait()
	var work int64
	for _, r := range all {
		work += r.work.Load()
	}
	// A replica that waits for a busy machine for longer than it may works too. On a quiet one make bench-fleet counts them.
	if alone := images * len(all); work < images || work > int64(alone/2) {
		t.Errorf("%d verifications of %d images in %d replicas; want %d, and at most half of the %d without sharing", work, images, len(all), images, alone)
	}
}

func TestWhatIsNotForOthersLetsThemWorkAtOnce(t *testing.T) {
	server := hostile(t)
	one, two := newReplica(t, open(t, "redis://"+server.Address, nil), patiently), newReplica(t, open(t, "redis://"+server.Address, nil), patiently)
	settle := one.Look(t.Context(), one.Budget(), lookupOf("app"), func(core.Entry) bool { return false })
	time.AfterFunc(50*time.Millisecond, func() { settle(nil) })
	if fact := two.facts(t.Context(), lookupOf("app"), "two", 0); fact.Signature.Signer != "two" || time.Duration(two.took.Load()) > sharedcache.Patience/2+atMost {
		t.Errorf("after %s: %+v", time.Duration(two.took.Load()), fact)
	}
}

// TestHostileServer has the servers that somebody may run who took it over. Whatever they do, each image gets the facts that its own
// replica works out or that a replica shared for this image and under this trust, and no caller waits longer than it may.
func TestHostileServer(t *testing.T) {
	app, other, old := lookupOf("ghcr.io/acme/app"), lookupOf("ghcr.io/mallory/app"), lookupOf("ghcr.io/acme/app")
	old.Trust.Revision = "r0"
	garbage := make([]byte, 600)
	_, _ = rand.Read(garbage)
	raw := func(answer string) redistest.Answer {
		return func(command []string, _ func() []byte) ([]byte, bool) { return []byte(answer), command[0] != "hello" }
	}
	get := func(value func() []byte) redistest.Answer {
		return func(command []string, _ func() []byte) ([]byte, bool) {
			if strings.EqualFold(command[0], "get") && !strings.HasSuffix(command[1], ":lease") {
				return redistest.Text(value()), true
			}
			return nil, false
		}
	}
	for sentence, answer := range map[string]func(server *redistest.Hostile, names map[string]string) redistest.Answer{
		"it hangs": func(*redistest.Hostile, map[string]string) redistest.Answer { return raw(string(redistest.Hang)) },
		"it is slow": func(*redistest.Hostile, map[string]string) redistest.Answer {
			return func([]string, func() []byte) ([]byte, bool) { time.Sleep(200 * time.Millisecond); return nil, false }
		},
		"it draws an answer out": func(*redistest.Hostile, map[string]string) redistest.Answer { return raw("$100\r\nx") },
		"it cuts an answer": func(*redistest.Hostile, map[string]string) redistest.Answer {
			return raw(string(redistest.Cut([]byte("$100\r\nx"))))
		},
		"it says that it sends a terabyte":         func(*redistest.Hostile, map[string]string) redistest.Answer { return raw("$1099511627776\r\n") },
		"it says that it sends a billion elements": func(*redistest.Hostile, map[string]string) redistest.Answer { return raw("*1000000000\r\n") },
		"it sends lists within lists": func(*redistest.Hostile, map[string]string) redistest.Answer {
			return raw(strings.Repeat("*1\r\n", 1<<20))
		},
		"it sends lengths below zero": func(*redistest.Hostile, map[string]string) redistest.Answer { return raw("$-9\r\n*-7\r\n") },
		"it sends several megabytes": func(*redistest.Hostile, map[string]string) redistest.Answer {
			return raw("$100000\r\n" + strings.Repeat("x", 8<<20))
		},
		"it answers twice": func(*redistest.Hostile, map[string]string) redistest.Answer {
			return raw("$1\r\nx\r\n$1\r\ny\r\n+OK\r\n")
		},
		"it speaks HTTP":          func(*redistest.Hostile, map[string]string) redistest.Answer { return raw("HTTP/1.1 200 OK\r\n\r\n") },
		"it answers with numbers": func(*redistest.Hostile, map[string]string) redistest.Answer { return raw(":1\r\n") },
		"it answers with errors": func(*redistest.Hostile, map[string]string) redistest.Answer {
			return raw("-ERR " + strings.Repeat("x", 3000) + "\r\n")
		},
		"it sends the client elsewhere": func(*redistest.Hostile, map[string]string) redistest.Answer {
			return raw("-MOVED 1 169.254.169.254:80\r\n")
		},
		"it has lost all": func(*redistest.Hostile, map[string]string) redistest.Answer { return get(func() []byte { return nil }) },
		"it makes values up": func(*redistest.Hostile, map[string]string) redistest.Answer {
			return get(func() []byte { return garbage })
		},
		"it gives the entry of another repository": func(server *redistest.Hostile, names map[string]string) redistest.Answer {
			return get(func() []byte { return server.History(names["other"])[0] })
		},
		"it gives the entry under a trust that was withdrawn": func(server *redistest.Hostile, names map[string]string) redistest.Answer {
			return get(func() []byte { return server.History(names["old"])[0] })
		},
		"it prolongs an entry": func(server *redistest.Hostile, names map[string]string) redistest.Answer {
			return get(func() []byte {
				prolonged := bytes.Clone(server.History(names["app"])[0])
				prolonged[10]++
				return prolonged
			})
		},
		"it grants all leases": func(*redistest.Hostile, map[string]string) redistest.Answer {
			granted := ""
			return func(command []string, honest func() []byte) ([]byte, bool) {
				switch {
				case strings.EqualFold(command[0], "set"):
					granted = command[2]
					return []byte("+OK\r\n"), true
				case strings.EqualFold(command[0], "get") && strings.HasSuffix(command[1], ":lease"):
					return redistest.Text([]byte(granted)), true
				}
				return []byte("$-1\r\n"), strings.EqualFold(command[0], "get")
			}
		},
		"it refuses all leases, and makes up who has them": func(*redistest.Hostile, map[string]string) redistest.Answer {
			return func(command []string, _ func() []byte) ([]byte, bool) {
				switch {
				case strings.EqualFold(command[0], "set"):
					return []byte("$-1\r\n"), true
				case strings.EqualFold(command[0], "get") && strings.HasSuffix(command[1], ":lease"):
					return redistest.Text(garbage), true
				}
				return []byte("$-1\r\n"), strings.EqualFold(command[0], "get")
			}
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			server := hostile(t)
			names := map[string]string{}
			writer := newReplica(t, open(t, "redis://"+server.Address, nil), patiently)
			for name, lookup := range map[string]verification.Lookup{"app": app, "other": other, "old": old} {
				known := len(server.Names())
				writer.facts(t.Context(), lookup, "CN=mallory", 0)
				await(t, func() bool { return len(server.Names()) > known })
				for _, each := range server.Names() {
					if _, taken := find(names, each); !taken {
						names[name] = each
					}
				}
			}
			server.Forget()
			server.Set(answer(server, names))
			reader := newReplica(t, open(t, "redis://"+server.Address, nil), nil)
			endures(t, reader, app)
		})
	}
}

// find looks for a value.
func find(names map[string]string, value string) (string, bool) {
	for name, each := range names {
		if each == value {
			return name, true
		}
	}
	return "", false
}

// await waits for something that others do.
func await(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come")
		}
	}
}

// TestAServerThatWithholdsIsWaitedForAFewTimes: it shows leases that replicas really took, and none of their entries.
func TestAServerThatWithholdsIsWaitedForAFewTimes(t *testing.T) {
	server := hostile(t)
	worker, reader := newReplica(t, open(t, "redis://"+server.Address, nil), patiently), newReplica(t, open(t, "redis://"+server.Address, nil), patiently)
	server.Set(func(command []string, _ func() []byte) ([]byte, bool) {
		return []byte("$-1\r\n"), strings.EqualFold(command[0], "get") && !strings.HasSuffix(command[1], ":lease") || strings.EqualFold(command[0], "del")
	})
	waits := 0
	for i := range 10 {
		lookup := lookupOf(fmt.Sprint("app-", i))
		worker.Look(t.Context(), worker.Budget(), lookup, func(core.Entry) bool { return false })
		if fact := reader.facts(t.Context(), lookup, "reader", 0); fact.Signature.Signer != "reader" {
			t.Fatalf("%+v", fact)
		}
		if time.Duration(reader.took.Load()) > sharedcache.Patience+atMost {
			t.Errorf("a verification waited %s", time.Duration(reader.took.Load()))
		}
		if time.Duration(reader.took.Load()) > sharedcache.Patience/2 {
			waits++
		}
	}
	if waits != 3 {
		t.Errorf("%d verifications waited", waits)
	}
}

// TestAnOldAnswerCountsAsLongAsOneThatIsKept: what the server can do at most is to show an entry again until its bound.
func TestAnOldAnswerCountsAsLongAsOneThatIsKept(t *testing.T) {
	server := hostile(t)
	var skew atomic.Int64
	clock := func(o *sharedcache.Options) {
		patiently(o)
		o.Now = func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
	}
	one, two := newReplica(t, open(t, "redis://"+server.Address, nil), clock), newReplica(t, open(t, "redis://"+server.Address, nil), clock)
	one.facts(t.Context(), lookupOf("app"), "", 0) // a denial, which is kept for ten seconds
	await(t, func() bool { return len(server.Names()) == 1 })
	denial := server.History(server.Names()[0])[0]
	server.Set(func(command []string, _ func() []byte) ([]byte, bool) {
		return redistest.Text(denial), strings.EqualFold(command[0], "get") && !strings.HasSuffix(command[1], ":lease")
	})
	if fact := two.facts(t.Context(), lookupOf("app"), "two", 0); fact.Signature.Verified {
		t.Errorf("%+v", fact)
	}
	skew.Store(int64(11 * time.Second))
	if fact := two.facts(t.Context(), lookupOf("app"), "two", 0); fact.Signature.Signer != "two" {
		t.Errorf("after eleven seconds: %+v", fact)
	}
	if two.Count(sharedcache.Over) == 0 || two.Count(sharedcache.False) != 0 {
		t.Error("it is not counted as over")
	}
}

func TestASlowServerIsLeftAlone(t *testing.T) {
	server := hostile(t)
	reader := newReplica(t, open(t, "redis://"+server.Address, nil), nil)
	server.Set(func([]string, func() []byte) ([]byte, bool) { return redistest.Hang, true })
	for range 100 {
		reader.facts(t.Context(), lookupOf("app"), "reader", 0)
	}
	if asked := reader.Count(sharedcache.Failed); asked > 50 || // twenty looks, as many writes, and what a busy machine adds
		reader.Count(sharedcache.LeftAlone) < 70 || reader.Answers() {
		t.Errorf("%d failed, %d were left out", asked, reader.Count(sharedcache.LeftAlone))
	}
	server.Set(nil)
	await(t, func() bool {
		reader.facts(t.Context(), lookupOf("app"), "reader", 0)
		return reader.Count(sharedcache.Hit) > 0
	})
	if warned, told := reader.log.count("is left alone"), reader.log.count("answers again"); warned != 1 || told != 1 {
		t.Errorf("logged %d and %d times:\n%s", warned, told, reader.log.text.String())
	}
}

func TestAFullServerIsReadAndNotLeftAlone(t *testing.T) {
	server := hostile(t)
	writer := newReplica(t, open(t, "redis://"+server.Address, nil), patiently)
	writer.facts(t.Context(), lookupOf("app"), "writer", 0)
	await(t, func() bool { return writer.Count(sharedcache.Written) == 1 })
	server.Set(func(command []string, _ func() []byte) ([]byte, bool) {
		return []byte("-OOM command not allowed when used memory > 'maxmemory'.\r\n"), strings.EqualFold(command[0], "set")
	})
	reader := newReplica(t, open(t, "redis://"+server.Address, nil), patiently)
	for i := range 20 {
		reader.facts(t.Context(), lookupOf(fmt.Sprint("new-", i)), "reader", 0)
	}
	await(t, func() bool { return reader.Count(sharedcache.Refused) == 20 })
	if fact := reader.facts(t.Context(), lookupOf("app"), "reader", 0); fact.Signature.Signer != "writer" {
		t.Errorf("%+v", fact)
	}
	if warned := reader.log.count("what it has is read"); warned != 1 {
		t.Errorf("logged %d times", warned)
	}
}

func TestWithoutKeysNothingIsShared(t *testing.T) {
	server := hostile(t)
	reader := newReplica(t, open(t, "redis://"+server.Address, nil), func(o *sharedcache.Options) { o.Keys = func() core.Keyring { return core.Keyring{} } })
	reader.facts(t.Context(), lookupOf("app"), "reader", 0)
	reader.PutNote("topic", []byte("text"), time.Now().Add(time.Minute))
	if _, ok := reader.Note(t.Context(), "topic"); ok || reader.Count(sharedcache.Unkeyed) != 1 || server.Asked("GET") != 0 {
		t.Error("the server was asked")
	}
}

func TestNotes(t *testing.T) {
	server := hostile(t)
	one, two := newReplica(t, open(t, "redis://"+server.Address, nil), patiently), newReplica(t, open(t, "redis://"+server.Address, nil), patiently)
	one.PutNote("registry/ghcr.io", []byte("60s"), time.Now().Add(time.Minute))
	one.PutNote("registry/over.example", []byte("60s"), time.Now())
	await(t, func() bool { return len(server.Names()) == 1 })
	if text, ok := two.Note(t.Context(), "registry/ghcr.io"); !ok || string(text) != "60s" {
		t.Errorf("%q", text)
	}
	if text, ok := two.Note(t.Context(), "registry/docker.io"); ok {
		t.Errorf("%q", text)
	}
}

// TestPausesAreTold to other replicas that ask, and nothing is where the server has nothing, lies or is gone.
func TestPausesAreTold(t *testing.T) {
	server := hostile(t)
	one, two := newReplica(t, open(t, "redis://"+server.Address, nil), patiently), newReplica(t, open(t, "redis://"+server.Address, nil), patiently)
	until := time.Now().Add(time.Minute).Truncate(time.Millisecond)
	tells, asks := one.Pauses(), two.Pauses()
	if told := asks.Told("ghcr.io"); !told.IsZero() {
		t.Errorf("told before anybody did: %s", told)
	}
	tells.Tell("ghcr.io", until)
	await(t, func() bool { return asks.Told("ghcr.io").Equal(until) })
	if told := asks.Told("docker.io"); !told.IsZero() {
		t.Errorf("of another registry: %s", told)
	}
	server.Close()
	await(t, func() bool { return asks.Told("ghcr.io").IsZero() })
	for i := range 3 * 1024 {
		asks.Told(fmt.Sprintf("r%d.example", i))
	}
	if known := sharedcache.Known(asks); known > 1024 {
		t.Errorf("%d registries are remembered", known)
	}
}

// real starts a real server, or skips the test with the reason.
func real(t *testing.T, arguments ...string) *redistest.Server {
	t.Helper()
	if _, err := redistest.Find(); err != nil {
		t.Skip(err)
	}
	server, err := redistest.Start(t.Context(), t.TempDir(), append(arguments, "--save", "", "--appendonly", "no")...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	return server
}

// share shares an entry from one replica to another over a server.
func share(t *testing.T, url string, change func(*sharedcache.RedisOptions)) {
	t.Helper()
	one, two := newReplica(t, open(t, url, change), patiently), newReplica(t, open(t, url, change), patiently)
	for i := range 20 { // in a cluster they are on different nodes
		lookup := lookupOf(fmt.Sprint("app-", i))
		one.facts(t.Context(), lookup, "one", 0)
		await(t, func() bool { return one.Count(sharedcache.Written) == uint64(i+1) || one.Count(sharedcache.Failed) > 0 })
		if one.Count(sharedcache.Failed) > 0 {
			t.Fatal(one.log.text.String())
		}
		if fact := two.facts(t.Context(), lookup, "two", 0); fact.Signature.Signer != "one" {
			t.Fatalf("%s: %+v\n%s", url, fact, two.log.text.String())
		}
	}
}

func TestRealServer(t *testing.T) {
	server := real(t)
	share(t, "redis://"+server.Address+"/3", nil)
}

func TestRealServerWithTLSAndAccessControl(t *testing.T) {
	certificate, key := certificate(t)
	dir := t.TempDir()
	users, password := filepath.Join(dir, "users.acl"), filepath.Join(dir, "password")
	write(t, users, "user default off\nuser knv on >correct-horse ~knv:* +get +set +del +ping +hello +select\n")
	write(t, password, "correct-horse\n")
	server := real(t, "--port", "0", "--tls-port", "PORT", "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", certificate, "--tls-auth-clients", "no", "--aclfile", users)
	secure := func(o *sharedcache.RedisOptions) { o.PasswordFile, o.CAFile = password, certificate }
	share(t, "rediss://knv@"+server.Address, secure)
	for sentence, tt := range map[string]struct {
		url    string
		change func(*sharedcache.RedisOptions)
	}{
		"without TLS":                    {"redis://knv@" + server.Address, func(o *sharedcache.RedisOptions) { o.PasswordFile = password }},
		"a CA that is not known":         {"rediss://knv@" + server.Address, func(o *sharedcache.RedisOptions) { o.PasswordFile = password }},
		"a user that is not known":       {"rediss://mallory@" + server.Address, secure},
		"the default user, which is off": {"rediss://" + server.Address, secure},
		"no password":                    {"rediss://knv@" + server.Address, func(o *sharedcache.RedisOptions) { o.CAFile = certificate }},
	} {
		reader := newReplica(t, open(t, tt.url, tt.change), patiently)
		if fact := reader.facts(t.Context(), lookupOf("app-0"), "reader", 0); fact.Signature.Signer != "reader" || reader.Count(sharedcache.Failed) == 0 {
			t.Errorf("%s: %+v", sentence, fact)
		}
	}
	reader := newReplica(t, open(t, "rediss://knv@"+server.Address, secure), patiently)
	write(t, password, "wrong")
	reader.facts(t.Context(), lookupOf("app-0"), "reader", 0)
	write(t, password, "correct-horse") // a password that is replaced is read for the next connection
	if fact := reader.facts(t.Context(), lookupOf("app-0"), "reader", 0); reader.Count(sharedcache.Hit) != 1 {
		t.Errorf("after the password is put right: %+v", fact)
	}
}

func TestRealSentinel(t *testing.T) {
	main := real(t)
	_, port, _ := strings.Cut(main.Address, ":")
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	write(t, config, fmt.Sprintf("sentinel monitor main 127.0.0.1 %s 1\nsentinel down-after-milliseconds main 500\n", port))
	sentinel, err := redistest.Start(t.Context(), t.TempDir(), config, "--sentinel", "--port", "PORT")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sentinel.Kill)
	share(t, "redis://"+sentinel.Address+"?sentinel=main", nil)
}

// TestNamedAddressesAreHeldAgainstTheRule: a sentinel may name any address, such as that of a cloud's metadata.
func TestNamedAddressesAreHeldAgainstTheRule(t *testing.T) {
	server, trap := hostile(t), hostile(t)
	host, port, _ := strings.Cut(trap.Address, ":")
	server.Set(func(command []string, _ func() []byte) ([]byte, bool) {
		return fmt.Appendf(nil, "*2\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(host), host, len(port), port), strings.EqualFold(command[0], "sentinel")
	})
	reader := newReplica(t, open(t, "redis://"+server.Address+"?sentinel=main", func(o *sharedcache.RedisOptions) { o.Egress = egress.Rule{} }), patiently)
	reader.facts(t.Context(), lookupOf("app"), "reader", 0)
	if server.Asked("SENTINEL") == 0 || trap.Asked("HELLO")+trap.Asked("GET") != 0 {
		t.Errorf("the sentinel was asked %d times, and the address that it named %d times", server.Asked("SENTINEL"), trap.Asked("HELLO"))
	}
}

func TestRealCluster(t *testing.T) {
	var nodes []*redistest.Server
	for range 3 {
		nodes = append(nodes, real(t, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-announce-ip", "127.0.0.1", "--cluster-port", "0"))
	}
	joinCluster(t, nodes)
	share(t, "redis://"+nodes[0].Address+"?cluster=true", nil)
}

// TestKilledServerUnderLoad kills a real server (kill -9) and starts it again, under load, as often as there is time: no facts are wrong,
// and nobody waits longer than allowed.
func TestKilledServerUnderLoad(t *testing.T) {
	server := real(t)
	var all []*replica
	for range 3 {
		all = append(all, newReplica(t, open(t, "redis://"+server.Address, nil), nil))
	}
	ctx, stop := context.WithCancel(t.Context())
	var loads sync.WaitGroup
	var done, slow atomic.Int64
	for _, r := range all {
		for worker := range 4 {
			loads.Go(func() {
				for i := worker; ctx.Err() == nil; i += 4 {
					repository := fmt.Sprint("app-", i%500)
					began := time.Now()
					var fact *verification.Fact
					lookup := lookupOf(repository)
					settle := r.Look(t.Context(), r.Budget(), lookup, func(entry core.Entry) bool { fact = entry.Fact; return true })
					if settle != nil {
						fact = &verification.Fact{Digest: lookup.Subject, Signature: verification.SignatureFact{Verified: true, Signer: repository}}
						entry, _ := core.NewEntry(task, lookup, nil, fact, r.Now())
						settle(&entry)
					}
					if fact.Digest != lookup.Subject || fact.Signature.Signer != repository {
						t.Errorf("%s: %+v", repository, fact)
					}
					if took := time.Since(began); took > sharedcache.MaxPatience+atMost {
						t.Errorf("a look took %s", took)
					} else if took > sharedcache.DefaultWait+slack {
						slow.Add(1)
					}
					done.Add(1)
				}
			})
		}
	}
	for range 3 {
		time.Sleep(300 * time.Millisecond)
		server.Kill()
		time.Sleep(300 * time.Millisecond)
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		hits := all[0].Count(sharedcache.Hit)
		await(t, func() bool { return all[0].Count(sharedcache.Hit) > hits })
	}
	server.Signal(syscall.SIGSTOP)
	time.Sleep(300 * time.Millisecond)
	server.Signal(syscall.SIGCONT)
	stop()
	loads.Wait()
	t.Logf("%d looks, %d of them slower than %s", done.Load(), slow.Load(), sharedcache.DefaultWait+slack)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
