package release

import (
	"context"
	"os"
	"strings"
)

// TypeVEX is the artifact type of the scan for known vulnerabilities, an OpenVEX document.
// https://github.com/openvex/spec
const TypeVEX = "application/vnd.openvex+json"

// unreachable are words of errors that say that the data cannot be had, and not what they say of the program.
var unreachable = []string{"fetching vulnerabilities", "dial tcp", "no such host", "Forbidden", "connection refused", "i/o timeout"}

// scan has govulncheck, at the version that go.mod pins, look for known vulnerabilities in what the program calls. Where the data cannot be
// had it gives the error as missing, and no document.
func scan(ctx context.Context, source Source, database string) (document []byte, missing, err error) {
	args := []string{"tool", "govulncheck", "-format", "openvex"}
	if database != "" {
		args = append(args, "-db", database)
	}
	said, err := output(ctx, source.Dir, append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off"), "go", append(args, Program)...)
	if err == nil {
		return []byte(said + "\n"), nil, nil
	}
	for _, words := range unreachable {
		if strings.Contains(err.Error(), words) {
			return nil, err, nil
		}
	}
	return nil, nil, err
}
