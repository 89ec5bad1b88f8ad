package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/core/recordkey"
	"github.com/nirmata/kyverno-notation-venafi/shell/issuer"
	"github.com/nirmata/kyverno-notation-venafi/shell/sealer"
)

// writeLog writes into a folder log.jsonl, of two replicas, one of which was killed and started again with another key, and
// keys.pem, killed.jsonl, which is the log before that start, and other-keys.pem.
func writeLog(dir string) error {
	var log bytes.Buffer
	var public []byte
	newKey := func() (*certificates.Pair, error) {
		key, err := issuer.RecordKey(recordkey.Policy{Duration: time.Hour}, time.Now().Add(-time.Minute))
		if err == nil {
			certificate, _, _ := key.PEM()
			public = append(public, certificate...)
		}
		return key, err
	}
	replica := func(name string) (*sealer.Sealer, error) {
		key, err := newKey()
		if err != nil {
			return nil, err
		}
		after, err := sealer.Tail(bytes.NewReader(log.Bytes()), int64(log.Len()))
		return sealer.New(sealer.Options{
			Deliver: func(_ context.Context, lines [][]byte) error {
				for _, line := range lines {
					log.Write(append(line, '\n'))
				}
				return nil
			},
			Key: func() *certificates.Pair { return key }, Replica: name, After: after, SignAfter: 10, Log: slog.New(slog.DiscardHandler),
		}), err
	}
	n := 0
	write := func(to *sealer.Sealer, records int) error {
		for range records {
			n++
			if err := to.Write(context.Background(), [][]byte{fmt.Appendf(nil, `{"id":"%026d","verdict":{"verified":true}}`, n)}); err != nil {
				return err
			}
		}
		return nil
	}
	killed, err := replica("pod-a")
	if err != nil {
		return err
	}
	if err := write(killed, 25); err != nil {
		return err
	}
	before := bytes.Clone(log.Bytes())
	again, err := replica("pod-a")
	if err != nil {
		return err
	}
	other, err := replica("pod-b")
	if err != nil {
		return err
	}
	for range 10 {
		if err := write(other, 2); err != nil {
			return err
		}
		if err := write(again, 3); err != nil {
			return err
		}
	}
	again.Close(context.Background())
	other.Close(context.Background())
	right := public
	public = nil
	if _, err := newKey(); err != nil {
		return err
	}
	for name, text := range map[string][]byte{"log.jsonl": log.Bytes(), "killed.jsonl": before, "keys.pem": right, "other-keys.pem": public} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// TestFiftyChangesAreFound changes one byte of a log at a time, anywhere, to anything.
func TestFiftyChangesAreFound(t *testing.T) {
	dir := t.TempDir()
	if err := writeLog(dir); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "log.jsonl")
	log, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	verify := func() (int, string) {
		var out, failed strings.Builder
		status := run(program, []string{"records", "verify", file, "--keys", filepath.Join(dir, "keys.pem"), "--open", "--partial"}, &out, &failed)
		return status, out.String() + failed.String()
	}
	if status, said := verify(); status != exitWhole {
		t.Fatalf("exit status %d before any change: %s", status, said)
	}
	random := rand.New(rand.NewPCG(17, 3))
	for range 50 {
		at, mask := random.IntN(len(log)), byte(1+random.IntN(255))
		log[at] ^= mask
		if err := os.WriteFile(file, log, 0o600); err != nil {
			t.Fatal(err)
		}
		if status, said := verify(); status != exitBroken || !strings.Contains(said, "NOT WHOLE") {
			t.Errorf("byte %d changed by %d: exit status %d: %s", at, mask, status, said)
		}
		log[at] ^= mask
	}
}
