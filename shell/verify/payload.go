package verify

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"

	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// maxPayload bounds an attestation's payload, compressed and not; bytes.
const maxPayload = 32 << 20

// maxMediaType bounds a media type with its parameters; bytes. RFC 6838 section 4.2 allows names of 127 each.
const maxMediaType = 512

// payloadLayer finds the one JSON layer of an attestation. The finding says why there is none.
func payloadLayer(layers []ocispec.Descriptor) (ocispec.Descriptor, *reason.Finding) {
	if len(layers) != 1 {
		return ocispec.Descriptor{}, unusable("it has %d layers; an attestation is one JSON document in one layer", len(layers))
	}
	layer := ocispec.Descriptor{MediaType: layers[0].MediaType, Digest: layers[0].Digest, Size: layers[0].Size}
	switch {
	case len(layer.MediaType) > maxMediaType || !isJSON(layer.MediaType):
		return ocispec.Descriptor{}, unusable("its layer has the media type %q; attach the document as application/json, or as another JSON type", reason.Clip(layer.MediaType, reason.MaxName))
	case layer.Digest.Validate() != nil:
		return ocispec.Descriptor{}, unusable("its layer has the digest %q, which is none", reason.Clip(layer.Digest.String(), reason.MaxName))
	case layer.Size > maxPayload || layer.Size < 0:
		return ocispec.Descriptor{}, unusable("its payload is %d bytes; at most %d are read", layer.Size, maxPayload)
	}
	return layer, nil
}

func unusable(format string, args ...any) *reason.Finding {
	return &reason.Finding{Code: reason.AttestationInvalid, Reason: reason.Clip(fmt.Sprintf(format, args...), 2*reason.MaxWords)}
}

// isJSON accepts JSON media types, also with the structured syntax suffixes of compression, and the type that oras gives a
// file whose type nobody named. What a layer is called is the pusher's word: the document itself has to be JSON.
func isJSON(mediaType string) bool {
	essence, _, err := mime.ParseMediaType(mediaType)
	if err != nil {
		return false
	}
	essence = strings.TrimSuffix(strings.TrimSuffix(essence, "+gzip"), "+zstd")
	return essence == ocispec.MediaTypeImageLayer || strings.HasSuffix(essence, "/json") || strings.HasSuffix(essence, "+json") || strings.HasSuffix(essence, ".json")
}

// The first bytes of what is compressed, with which no JSON starts.
const (
	gzipMagic = "\x1f\x8b"
	zstdMagic = "\x28\xb5\x2f\xfd"
)

// unpackedSize is what a payload may take when it is decompressed, bytes.
func unpackedSize(data []byte) int64 {
	if bytes.HasPrefix(data, []byte(gzipMagic)) || bytes.HasPrefix(data, []byte(zstdMagic)) {
		return maxPayload
	}
	return int64(len(data))
}

// decompress undoes gzip or zstd, until the request has ended. The bound holds for what comes out.
func decompress(data []byte, ended func() bool) ([]byte, error) {
	packed := untilEnd{ended, bytes.NewReader(data)} // of which millions of parts may be empty, and give nothing to read
	switch {
	case bytes.HasPrefix(data, []byte(gzipMagic)):
		reader, err := gzip.NewReader(packed)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return readAll(untilEnd{ended, reader})
	case bytes.HasPrefix(data, []byte(zstdMagic)):
		reader, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxPayload))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		defer reader.Close()
		return readAll(untilEnd{ended, reader})
	}
	return data, nil
}

// untilEnd reads until the request has ended.
type untilEnd struct {
	ended  func() bool
	reader io.Reader
}

// Read reads no more than a piece.
func (r untilEnd) Read(into []byte) (int, error) {
	if r.ended() {
		return 0, errors.New("time ran out")
	}
	return r.reader.Read(into[:min(len(into), 64<<10)])
}

func readAll(reader io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(reader, maxPayload+1))
	if err != nil {
		return nil, fmt.Errorf("decompressing: %w", err)
	}
	if len(data) > maxPayload {
		return nil, errors.New("decompressed, it is over 32 MiB")
	}
	return data, nil
}
