package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// maxPlugin bounds the plugin's archive and the program in it; bytes.
const maxPlugin = 200 << 20

// Plugin says which release of the verification plugin goes into the image. The zero value is none.
type Plugin struct {
	Release string   // URL of the folder with the archives
	Sums    []string // SHA-256 of the archives, hexadecimal: nothing else is taken
}

// pluginArchive is a downloaded archive and the program in it.
type pluginArchive struct {
	url, sum string
	program  []byte
}

// fetch downloads the archive for an architecture and unpacks the program.
func (p Plugin) fetch(ctx context.Context, architecture string) (*pluginArchive, error) {
	if len(p.Sums) == 0 {
		return nil, nil
	}
	found := &pluginArchive{url: p.Release + "/notation-venafi-csp-linux-" + architecture + ".tar.gz"}
	content, err := download(ctx, found.url)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content)
	if found.sum = hex.EncodeToString(sum[:]); !slices.Contains(p.Sums, found.sum) {
		return nil, fmt.Errorf("%s has the checksum %s, which is not among those given", found.url, found.sum)
	}
	if found.program, err = unpack(content); err != nil {
		return nil, fmt.Errorf("%s: %w", found.url, err)
	}
	return found, nil
}

func download(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, response.Status)
	}
	return bounded(response.Body)
}

// unpack gives the file notation-venafi-csp of a compressed tar.
func unpack(content []byte) ([]byte, error) {
	packed, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	for reader := tar.NewReader(packed); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("it holds no file notation-venafi-csp")
		}
		if err != nil {
			return nil, err
		}
		if header.Name == "notation-venafi-csp" && header.Typeflag == tar.TypeReg {
			return bounded(reader)
		}
	}
}

func bounded(reader io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(reader, maxPlugin+1))
	if err == nil && len(content) > maxPlugin {
		err = fmt.Errorf("it is over %d bytes", maxPlugin)
	}
	return content, err
}
