// Command standin is a Notation verification plugin for tests and for the
// demonstration: it stands in for venafi-csp, which is published as a binary
// only and needs a signing platform to talk to.
//
// It speaks the Notation plugin protocol, contract version 1.0: the command is
// the one argument, the request is JSON on stdin, the answer JSON on stdout,
// and an error is {"errorCode", "errorMessage"} on stderr with exit code 1.
// https://github.com/notaryproject/specifications/blob/v1.1.0/specs/plugin-extensibility.md
//
// Two files beside the executable steer and record it. `mode` makes it
// misbehave (see mode.go). To `calls`, if that exists and the sandbox lets it
// write there, it appends one line "<command> <pid>" per process, so that
// tests can count processes.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/notaryproject/notation-plugin-framework-go/plugin"
)

// maxRequest bounds a request in bytes: a certificate chain and its attributes
// take some 20 kB.
const maxRequest = 16 << 20

func main() {
	os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run answers one command and returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	home := filepath.Dir(args[0])
	if len(args) != 2 {
		return refuse(stderr, plugin.NewValidationError("usage: notation-venafi-csp <command>"))
	}
	command := plugin.Command(args[1])
	if command == commandLinger {
		return linger()
	}
	if err := recordCall(home, command); err != nil {
		return refuse(stderr, err)
	}
	m, err := readMode(home, command)
	if err != nil {
		return refuse(stderr, err)
	}
	if code, ended := m.misbehave(args[0], stdout, stderr); ended {
		return code
	}
	answer, err := respond(command, m, stdin)
	if err != nil {
		return refuse(stderr, err)
	}
	if err := json.NewEncoder(stdout).Encode(answer); err != nil {
		return refuse(stderr, fmt.Errorf("write the answer to %s: %w", command, err))
	}
	return 0
}

// respond decodes the request of a command and computes its answer.
func respond(command plugin.Command, m mode, stdin io.Reader) (any, error) {
	decoder := json.NewDecoder(io.LimitReader(stdin, maxRequest))
	switch command {
	case plugin.CommandGetMetadata:
		return metadata(m), nil
	case plugin.CommandVerifySignature:
		var request plugin.VerifySignatureRequest
		if err := decoder.Decode(&request); err != nil {
			return nil, plugin.NewJSONParsingError(plugin.ErrorMsgMalformedInput)
		}
		return verifySignature(request, m)
	default:
		return nil, plugin.NewUnsupportedError(fmt.Sprintf("command %q", command))
	}
}

// refuse writes an error as the protocol wants it and returns the exit code.
// An error without a protocol code becomes the general one.
func refuse(stderr io.Writer, err error) int {
	var coded *plugin.Error
	if !errors.As(err, &coded) {
		coded = plugin.NewGenericError(err.Error())
	}
	fmt.Fprintln(stderr, coded.Error())
	return 1
}

// recordCall appends this process to the file `calls`, if there is one.
// Lines this short are appended whole (O_APPEND), so concurrent processes do
// not mix theirs.
func recordCall(home string, command plugin.Command) (err error) {
	file, err := os.OpenFile(filepath.Join(home, "calls"), os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("record the call: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = fmt.Fprintf(file, "%s %d\n", command, os.Getpid())
	return err
}
