package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/notaryproject/notation-plugin-framework-go/plugin"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/sandbox"
	"github.com/nirmata/kyverno-notation-venafi/shell/tracing"
)

// maxOutput bounds what a plugin may write to stdout, and to stderr; bytes.
const maxOutput = 4 << 20

// process runs an installed plugin. It implements the verifying part of notation-go's plugin.Plugin.
type process struct {
	manager *Manager
	name    string
	path    string
	file    identity
}

// errSigns refuses to sign.
var errSigns = errors.New("signing is not this service's business")

// DescribeKey is part of the interface, for signing.
func (p *process) DescribeKey(context.Context, *plugin.DescribeKeyRequest) (*plugin.DescribeKeyResponse, error) {
	return nil, errSigns
}

// GenerateSignature is part of the interface, for signing.
func (p *process) GenerateSignature(context.Context, *plugin.GenerateSignatureRequest) (*plugin.GenerateSignatureResponse, error) {
	return nil, errSigns
}

// GenerateEnvelope is part of the interface, for signing.
func (p *process) GenerateEnvelope(context.Context, *plugin.GenerateEnvelopeRequest) (*plugin.GenerateEnvelopeResponse, error) {
	return nil, errSigns
}

// GetMetadata asks for the plugin's metadata, once for as long as its file stays the same. Concurrent calls share one
// process, which no caller can cancel.
func (p *process) GetMetadata(ctx context.Context, _ *plugin.GetMetadataRequest) (*plugin.GetMetadataResponse, error) {
	path, file, err := p.manager.locate(p.name)
	if err != nil {
		return nil, err
	}
	if known, ok := p.manager.recall(p.name, file); ok {
		return &known, nil
	}
	asked := &process{manager: p.manager, name: p.name, path: path, file: file}
	answer, ok := p.manager.lookups.Do(ctx, p.name+" "+file.String(), func(ctx context.Context) lookedUp {
		metadata, err := asked.askMetadata(ctx)
		if err == nil {
			p.manager.remember(p.name, file, *metadata)
		}
		return lookedUp{metadata, err}
	})
	if !ok {
		return nil, &Error{Code: reason.PluginTimeout, Text: p.says("did not tell what it is in time"), cause: ctx.Err(), blame: blameCaller}
	}
	return answer.metadata, answer.err
}

// lookedUp is what a metadata process gave.
type lookedUp struct {
	metadata *plugin.GetMetadataResponse
	err      error
}

func (p *process) askMetadata(ctx context.Context) (*plugin.GetMetadataResponse, error) {
	request := &plugin.GetMetadataRequest{PluginConfig: p.manager.Config()}
	var metadata plugin.GetMetadataResponse
	if err := p.run(ctx, "", request, &metadata); err != nil {
		return nil, err
	}
	switch {
	case metadata.Name != p.name:
		return nil, &Error{Code: reason.PluginFailed, Text: p.says("calls itself %q", metadata.Name)}
	case metadata.Version == "" || len(metadata.Capabilities) == 0:
		return nil, &Error{Code: reason.PluginFailed, Text: p.says("does not tell its version and capabilities")}
	case !slices.Contains(metadata.SupportedContractVersions, plugin.ContractVersion):
		return nil, &Error{Code: reason.PluginIncapable, Text: p.says("does not support contract version %s", plugin.ContractVersion)}
	}
	metadata = p.manager.completed(metadata)
	return &metadata, nil
}

// VerifySignature has the plugin verify its part of a signature.
func (p *process) VerifySignature(ctx context.Context, request *plugin.VerifySignatureRequest) (*plugin.VerifySignatureResponse, error) {
	var response plugin.VerifySignatureResponse
	if err := p.run(ctx, sourceOf(request), request, &response); err != nil {
		return nil, err
	}
	return &response, nil
}

// sourceOf identifies the source of a signature, for its circuit: the root certificate of its chain, and the address from
// which it has the plugin fetch a certificate. An address whose answer crashes the plugin opens the circuit of the
// signatures with the same address only.
func sourceOf(request *plugin.VerifySignatureRequest) string {
	root, address := "", request.Signature.CriticalAttributes.ExtendedAttributes[trust.AttributeX5U]
	if chain := request.Signature.CertificateChain; len(chain) > 0 {
		root = string(chain[len(chain)-1])
	}
	return digestOf(root, fmt.Sprint(address))
}

// says makes one bounded line of text without secrets, since a plugin may write anything.
func (p *process) says(format string, args ...any) string {
	text := strings.Join(strings.FieldsFunc(fmt.Sprintf(format, args...), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	text = reason.Clip(p.manager.redacted(text), reason.MaxWords)
	return fmt.Sprintf("the plugin %q ", p.name) + strings.ToValidUTF8(text, "")
}

// failed is a failure that is the plugin's own fault.
func (p *process) failed(cause error, format string, args ...any) *Error {
	return &Error{Code: reason.PluginFailed, Text: p.says(format, args...), cause: cause, blame: blamePlugin}
}

// run sends a request to a new process and reads its answer, unless the circuit of the plugin and source is open. Waiting
// for a seat counts against the caller's deadline.
func (p *process) run(ctx context.Context, source string, request plugin.Request, response any) (err error) {
	defer func() { p.manager.counts.count(err) }()
	circuit := p.manager.circuits.of(digestOf(p.name, p.file.String(), source))
	if circuit.isOpen() { // no need to wait for a seat
		return circuit.refusal()
	}
	processes := p.manager.processes
	if err := processes.Acquire(ctx); err != nil {
		return &Error{
			Code: reason.PluginTimeout, cause: err, blame: blameCaller,
			Text: p.says("was not asked %s: time ran out waiting, since %d plugin processes were running; raise --maxPluginProcesses if that lasts", request.Command(), processes.Seats()),
		}
	}
	defer processes.Release()
	return circuit.do(func() error { return p.call(ctx, request, response) })
}

// pipesTime is how long the pipes of a process that has ended may stay open. A process that is throttled, as by a container's
// limit of processor time, may need some of it to read what is in them.
const pipesTime = time.Second / 2

// call runs one process. It and its children are killed at the deadline or when the request is canceled.
func (p *process) call(caller context.Context, request plugin.Request, response any) (err error) {
	caller, span := tracing.Start(caller, "plugin", p.name)
	defer func() { endCall(span, request.Command(), err) }()
	ctx, cancel := context.WithTimeout(caller, p.manager.options.Timeout)
	defer cancel()
	input, err := json.Marshal(request)
	if err != nil {
		return &Error{Code: reason.PluginFailed, Text: p.says("cannot be asked: %v", err), cause: err, blame: blameCaller}
	}
	began := time.Now()
	stdout, stderr := &boundedOutput{stop: cancel}, &boundedOutput{stop: cancel}
	command := exec.CommandContext(ctx, p.path, string(request.Command()))
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(input), stdout, stderr
	command.Env = p.manager.env
	command.Cancel = func() error { return sandbox.Kill(command) }
	command.WaitDelay = pipesTime
	started, err := sandbox.Start(command, p.manager.options.Sandbox, p.manager.policy(p.path))
	if err != nil {
		return p.notStarted(ctx, began, request.Command(), err)
	}
	p.manager.counts.started.Add(1)
	err = command.Wait()
	started.End()
	switch {
	case stdout.flooded || stderr.flooded:
		return p.failed(nil, "wrote more than %d bytes", maxOutput)
	case err != nil && ctx.Err() != nil:
		return p.outOfTime(ctx, began, request.Command())
	case errors.Is(err, exec.ErrWaitDelay):
		return p.failed(err, "left a child behind that holds its pipes")
	case err != nil:
		return p.refusal(request.Command(), stderr.kept.Bytes(), err)
	}
	if err := json.Unmarshal(stdout.kept.Bytes(), response); err != nil {
		return p.failed(err, "answered %s with something that is not the protocol's JSON: %v", request.Command(), err)
	}
	return nil
}

// endCall ends the span of a process with what came of it. What the plugin wrote stays out.
func endCall(span *tracing.Span, command plugin.Command, err error) {
	span.Text("plugin.command", string(command))
	span.Text("outcome", "ok")
	if failure, ok := errors.AsType[*Error](err); ok {
		span.Text("outcome", string(failure.Code))
	}
	span.End()
}

// outOfTime blames the plugin only if it had at least half of its timeout. Callers that came with little time left, or gave
// up, do not open the circuit.
func (p *process) outOfTime(ctx context.Context, began time.Time, command plugin.Command) *Error {
	e := &Error{Code: reason.PluginTimeout, Text: p.says("did not answer %s in time", command), cause: ctx.Err(), blame: blamePlugin}
	if errors.Is(ctx.Err(), context.Canceled) || time.Since(began) < p.manager.options.Timeout/2 {
		e.blame = blameCaller
	}
	return e
}

// notStarted tells a plugin that was removed meanwhile from one that fails to start.
func (p *process) notStarted(ctx context.Context, began time.Time, command plugin.Command, err error) error {
	if ctx.Err() != nil {
		return p.outOfTime(ctx, began, command)
	}
	if _, _, missing := p.manager.locate(p.name); missing != nil {
		return missing
	}
	var path *fs.PathError // its path does not help the reader of the denial
	if errors.As(err, &path) {
		err = path.Err
	}
	return p.failed(err, "cannot be started: %v", err)
}

// refusal is the error that a plugin writes to stderr when it fails (specification, section "Plugin contract").
func (p *process) refusal(command plugin.Command, stderr []byte, err error) error {
	var said struct {
		Code    plugin.ErrorCode `json:"errorCode"`
		Message string           `json:"errorMessage"`
	}
	if json.Unmarshal(stderr, &said) != nil || said.Code == "" {
		return p.failed(err, "failed at %s: %v", command, err)
	}
	code := reason.PluginFailed
	switch said.Code {
	case plugin.ErrorCodeValidation:
		code = reason.PluginRefused
	case plugin.ErrorCodeUnsupportedContractVersion:
		code = reason.PluginIncapable
	case plugin.ErrorCodeTimeout:
		code = reason.PluginTimeout
	}
	return &Error{Code: code, Text: p.says("refused %s: %s", command, said.Message), cause: err}
}

// boundedOutput keeps output up to maxOutput, and stops the process past it. The buffer is not embedded, because its
// ReadFrom would bypass the bound.
type boundedOutput struct {
	kept    bytes.Buffer
	stop    func()
	flooded bool
}

// Write fails past the bound.
func (b *boundedOutput) Write(data []byte) (int, error) {
	if b.kept.Len()+len(data) > maxOutput {
		b.flooded = true
		b.stop()
		return 0, errors.New("too much output")
	}
	return b.kept.Write(data)
}
