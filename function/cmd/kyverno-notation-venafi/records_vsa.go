package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/ledger"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/core/vsa"
	"github.com/nirmata/kyverno-notation-venafi/function"
)

// attester are the flags by which attestations are made.
type attester struct {
	key, verifier string
	levels        []string
}

func (a *attester) register(flags *pflag.FlagSet) {
	flags.StringVar(&a.key, "key", "", "PEM `file` of the private key that signs attestations, ECDSA P-256.")
	flags.StringVar(&a.verifier, "verifier", "", "`URI` of who vouches, as those know it who trust the key.")
	flags.StringArrayVar(&a.levels, "level", nil, "A `level` of your own that the trust policy stands for, such as ACME_SIGNED; repeatable.")
}

// vsaOptions are the flags of records vsa that are not settings.
type vsaOptions struct {
	attester
	log         logOptions
	trustPolicy string
}

func (o *vsaOptions) register(flags *pflag.FlagSet) {
	o.log.register(flags)
	o.attester.register(flags)
	flags.StringVar(&o.trustPolicy, "trustPolicy", "", "Only under this trust policy; else one attestation for each.")
}

// attested is what a record in a log says of an image.
type attested struct {
	summary  vsa.Summary
	chain    string
	sequence uint64
}

func newRecordsVSA() *cobra.Command {
	var options vsaOptions
	command := &cobra.Command{
		Use: "vsa IMAGE@DIGEST FILE...", Short: "Print Verification Summary Attestations of an image",
		Long: `Prints, for each trust policy, what a whole log of decision records says of an image, as a signed Verification Summary Attestation in a
DSSE envelope. It exits with 1 where nothing can be attested.`,
		Example: "  {program} records vsa ghcr.io/acme/app@sha256:... decisions.jsonl --key key.pem --verifier https://acme.example/verifier",
	}
	read := withClusterOfUser(command, recordsFlags...)
	options.register(command.Flags())
	command.RunE = runs(func(c *cobra.Command, args []string) (int, error) {
		settings, err := read()
		if err != nil {
			return 0, err
		}
		return attestRecords(c.Context(), settings, &options, args, c.OutOrStdout(), c.ErrOrStderr())
	})
	return command
}

// attestRecords prints an envelope for each trust policy, a line each, of the youngest record that is signed, and returns the
// exit status: 1 where nothing can be attested.
func attestRecords(ctx context.Context, settings function.Settings, options *vsaOptions, rest []string, stdout, stderr io.Writer) (int, error) {
	key, ref, err := options.parse(rest)
	if err != nil {
		return 0, err
	}
	found := &search{repository: ref.Name(), digest: ref.Digest, trustPolicy: options.trustPolicy}
	verified, err := options.log.verify(ctx, settings, rest[1:], found.record)
	if err != nil {
		return 0, err
	}
	if !verified.Whole {
		fmt.Fprintln(stderr, "error: the log is not whole, and so proves nothing; see records verify")
		return exitBroken, nil
	}
	youngest := found.youngest(verified)
	if len(youngest) == 0 {
		fmt.Fprintln(stderr, "error: nothing can be attested of", ref.Pinned(ref.Digest)+":", plain(found.reason().Error()))
		return exitBroken, nil
	}
	for _, policy := range slices.Sorted(maps.Keys(youngest)) {
		if err := options.print(stdout, youngest[policy], key); err != nil {
			return 0, err
		}
	}
	return exitWhole, nil
}

// parse reads the key and the image, the first of the other arguments.
func (o *vsaOptions) parse(rest []string) (crypto.Signer, image.Reference, error) {
	if len(rest) < 2 || o.key == "" || o.verifier == "" {
		return nil, image.Reference{}, errors.New("records vsa takes an image by its digest, the files of the log, --key and --verifier")
	}
	ref, err := image.Parse(rest[0])
	if err == nil && ref.Digest == "" {
		err = fmt.Errorf("%s is not named by its digest", rest[0])
	}
	if err != nil {
		return nil, image.Reference{}, err
	}
	key, err := readKey(o.key)
	return key, ref, err
}

// readKey reads a private key: PKCS #8, or SEC 1 as openssl writes it.
func readKey(file string) (crypto.Signer, error) {
	text, err := readBounded(file, maxKeys)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
			return key, nil
		}
		if parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, ok := parsed.(crypto.Signer); ok {
				return key, nil
			}
		}
	}
	return nil, fmt.Errorf("%s holds no private key", file)
}

// print prints an envelope.
func (a *attester) print(stdout io.Writer, summary vsa.Summary, key crypto.Signer) error {
	summary.Verifier, summary.Levels = a.verifier, a.levels
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "(devel)" {
		summary.Version = info.Main.Version
	}
	statement, err := summary.Statement()
	if err != nil {
		return err
	}
	envelope, err := vsa.Sign(statement, key)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s\n", envelope)
	return err
}

// search finds what the records of a log say of an image.
type search struct {
	repository, digest, trustPolicy string

	found   []attested
	refused error // why the last record of the image attests nothing
}

// record takes a record in its place in the log.
func (s *search) record(text []byte, chain string, sequence uint64) {
	if !bytes.Contains(text, []byte(s.digest)) {
		return
	}
	made, err := record.Decode(text)
	if err != nil {
		s.refused = err
		return
	}
	summary, err := vsa.Summarize(made, s.repository, s.digest)
	var other *vsa.NotFoundError
	switch {
	case errors.As(err, &other):
	case err != nil:
		s.refused = fmt.Errorf("decision %s: %w", made.ID, err)
	case s.trustPolicy == "" || summary.Policy == s.trustPolicy:
		s.found = append(s.found, attested{summary, chain, sequence})
	}
}

// youngest gives by trust policy what the youngest record says of those that something signed vouches for.
func (s *search) youngest(log ledger.Report) map[string]vsa.Summary {
	signed := map[string]uint64{} // lines by chain
	for _, chain := range log.Chains {
		signed[chain.Chain] = chain.Head.Sequence + 1 - chain.Unsigned
	}
	youngest := map[string]vsa.Summary{}
	for _, each := range s.found {
		if each.sequence >= signed[each.chain] {
			s.refused = errors.New("its record is not signed yet")
			continue
		}
		if have, ok := youngest[each.summary.Policy]; !ok || each.summary.At.After(have.At) {
			youngest[each.summary.Policy] = each.summary
		}
	}
	return youngest
}

func (s *search) reason() error {
	if s.refused != nil {
		return s.refused
	}
	return errors.New("the log has no decision about it")
}
