package main

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/core/vsa"
)

// attestations are those that check writes. Nil writes none.
type attestations struct {
	*attester
	file string
	key  crypto.Signer
}

// open reads the key before anything is verified.
func (a *attester) open(file string) (*attestations, error) {
	if a.key == "" || a.verifier == "" {
		return nil, errors.New("--vsa needs --key and --verifier")
	}
	key, err := readKey(a.key)
	return &attestations{a, file, key}, err
}

// write writes an envelope for each digest that was verified, once for each repository and trust policy, a line each. The file is
// empty where none was. Of what was admitted with warnings nothing can be attested, which is said.
func (a *attestations) write(found []checked, stderr io.Writer) error {
	if a == nil {
		return nil
	}
	var text bytes.Buffer
	written := map[string]bool{}
	for _, each := range found {
		for _, result := range each.verdict.Results {
			if !result.Verified || result.Code != reason.Verified {
				continue
			}
			summary, err := summarized(each.record, result.Requested, result.Digest)
			if err != nil {
				fmt.Fprintf(stderr, "warning: nothing can be attested of %s: %s\n", plain(result.Requested), plain(err.Error()))
				continue
			}
			if once := summary.Image + "@" + summary.Digest + " " + summary.Policy; !written[once] {
				written[once] = true
				if err := a.print(&text, summary, a.key); err != nil {
					return err
				}
			}
		}
	}
	return os.WriteFile(a.file, text.Bytes(), 0o644)
}

// summarized gives what a record says of an image.
func summarized(made record.Record, requested, digest string) (vsa.Summary, error) {
	ref, err := image.Parse(requested)
	if err != nil {
		return vsa.Summary{}, err
	}
	made, _, err = record.Encode(made) // as it would be recorded
	if err != nil {
		return vsa.Summary{}, err
	}
	return vsa.Summarize(made, ref.Name(), digest)
}
