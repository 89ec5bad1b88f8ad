// Package notation carries trust over between the configuration directory of the notation CLI (Notary Project, "Notation directory
// structure") and TrustPolicy and TrustStore resources.
//
// [Import] reads the files of such a directory, given as values, and [Config.Manifests] writes them as resources; [Export] goes the
// other way. Nothing is left out in silence: what cannot be carried over is an error that names the file and the line. What a policy or a
// certificate means is not judged here; whoever imports compiles the resources as the service does.
package notation

import (
	"fmt"
	"strings"
)

// File is a file of the directory.
type File struct {
	Path string // relative to the directory, with slashes
	Data []byte
}

// Names in the directory.
const (
	PolicyFile     = "trustpolicy.json"
	ImagePolicies  = "trustpolicy.oci.json"  // goes before PolicyFile, since notation 2.0
	BlobPolicies   = "trustpolicy.blob.json" // of what is no image
	StoreFolder    = "truststore/x509"
	exportedBundle = "certificates.pem"
)

// Problem is something that cannot be carried over.
type Problem struct {
	File   string
	Line   int // from 1; 0 for the whole file
	Reason string
}

// Error names the file and the line.
func (p Problem) Error() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s", p.File, p.Reason)
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Reason)
}

// Errors are all that cannot be carried over.
type Errors []Problem

// Error lists them, one a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, problem := range e {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}
