package records

import (
	"context"

	"github.com/nirmata/kyverno-notation-venafi/core/ledger"
	"github.com/nirmata/kyverno-notation-venafi/shell/sealer"
)

// sealed chains and signs what is written to a sink.
type sealed struct {
	batchWriter
	*sealer.Sealer
}

func newSealed(name string, writer batchWriter, options Options, after *ledger.Head) *sealed {
	return &sealed{writer, sealer.New(sealer.Options{
		Deliver: writer.write, Key: options.Key, Replica: options.Replica, After: after, Log: options.Log.With("sink", name),
	})}
}

func (s *sealed) write(ctx context.Context, batch [][]byte) error { return s.Write(ctx, batch) }

func (s *sealed) close() error {
	s.Close(context.Background())
	return s.batchWriter.close()
}
