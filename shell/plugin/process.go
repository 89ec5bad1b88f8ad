package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/notaryproject/notation-plugin-framework-go/plugin"

	"github.com/nirmata/kyverno-notation-venafi/core"
)

// maxOutput bounds what a plugin may write to stdout, and to stderr; bytes.
const maxOutput = 4 << 20

// process is an installed plugin. It is notation-go's plugin.Plugin, as far as verification goes.
type process struct {
	manager *Manager
	name    string
	path    string
}

// errSigns refuses what the plugin is never asked here.
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

// GetMetadata asks the plugin what it is, once for as long as its file stays the same. Requests that ask at the
// same time share one process, which none of them can cancel for the others.
func (p *process) GetMetadata(ctx context.Context, _ *plugin.GetMetadataRequest) (*plugin.GetMetadataResponse, error) {
	path, file, err := p.manager.locate(p.name)
	if err != nil {
		return nil, err
	}
	if known, ok := p.manager.recall(p.name, file); ok {
		return &known, nil
	}
	detached := context.WithoutCancel(ctx)
	answer := p.manager.lookups.DoChan(p.name, func() (any, error) {
		metadata, err := p.askMetadata(detached, path)
		if err == nil {
			p.manager.remember(p.name, file, *metadata)
		}
		return metadata, err
	})
	select {
	case <-ctx.Done():
		return nil, &Error{Code: core.PluginTimeout, Text: p.says("did not tell what it is in time"), cause: ctx.Err()}
	case result := <-answer:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*plugin.GetMetadataResponse), nil
	}
}

func (p *process) askMetadata(ctx context.Context, path string) (*plugin.GetMetadataResponse, error) {
	request := &plugin.GetMetadataRequest{PluginConfig: p.manager.Config()}
	var metadata plugin.GetMetadataResponse
	if err := p.run(ctx, path, request, &metadata); err != nil {
		return nil, err
	}
	switch {
	case metadata.Name != p.name:
		return nil, &Error{Code: core.PluginFailed, Text: p.says("calls itself %q", metadata.Name)}
	case metadata.Version == "" || len(metadata.Capabilities) == 0:
		return nil, &Error{Code: core.PluginFailed, Text: p.says("does not tell its version and capabilities")}
	case !slices.Contains(metadata.SupportedContractVersions, plugin.ContractVersion):
		return nil, &Error{Code: core.PluginIncapable, Text: p.says("does not support contract version %s", plugin.ContractVersion)}
	}
	return &metadata, nil
}

// VerifySignature asks the plugin for its part of a verification.
func (p *process) VerifySignature(ctx context.Context, request *plugin.VerifySignatureRequest) (*plugin.VerifySignatureResponse, error) {
	var response plugin.VerifySignatureResponse
	if err := p.run(ctx, p.path, request, &response); err != nil {
		return nil, err
	}
	return &response, nil
}

func (p *process) says(format string, args ...any) string {
	return fmt.Sprintf("the plugin %q ", p.name) + fmt.Sprintf(format, args...)
}

// run sends a request to a new process and reads its answer. The process and its children are killed when time
// is out or the request is cancelled.
func (p *process) run(ctx context.Context, path string, request plugin.Request, response any) error {
	ctx, cancel := context.WithTimeout(ctx, p.manager.options.Timeout)
	defer cancel()
	input, err := json.Marshal(request)
	if err != nil {
		return &Error{Code: core.PluginFailed, Text: p.says("cannot be asked: %v", err), cause: err}
	}
	stdout, stderr := &bounded{stop: cancel}, &bounded{stop: cancel}
	command := exec.CommandContext(ctx, path, string(request.Command()))
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(input), stdout, stderr
	command.Env = p.manager.options.Env
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = 100 * time.Millisecond
	err = command.Run()
	if errors.Is(err, exec.ErrWaitDelay) { // children that outlived it hold the pipes, so the group still exists
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
	}
	switch {
	case stdout.flooded || stderr.flooded:
		return &Error{Code: core.PluginFailed, Text: p.says("wrote more than %d bytes", maxOutput)}
	case err != nil && ctx.Err() != nil:
		return &Error{Code: core.PluginTimeout, Text: p.says("did not answer %s in time", request.Command()), cause: ctx.Err()}
	case err != nil:
		return p.refusal(request.Command(), stderr.kept.Bytes(), err)
	}
	if err := json.Unmarshal(stdout.kept.Bytes(), response); err != nil {
		return &Error{Code: core.PluginFailed, Text: p.says("answered %s with something that is not the protocol's JSON: %v", request.Command(), err), cause: err}
	}
	return nil
}

// refusal reads the error that a plugin writes to stderr when it fails (specification, section "Plugin contract").
func (p *process) refusal(command plugin.Command, stderr []byte, err error) error {
	var said struct {
		Code    plugin.ErrorCode `json:"errorCode"`
		Message string           `json:"errorMessage"`
	}
	if json.Unmarshal(stderr, &said) != nil || said.Code == "" {
		return &Error{Code: core.PluginFailed, Text: p.says("failed at %s: %v", command, err), cause: err}
	}
	code := core.PluginFailed
	switch said.Code {
	case plugin.ErrorCodeValidation:
		code = core.PluginRefused
	case plugin.ErrorCodeUnsupportedContractVersion:
		code = core.PluginIncapable
	case plugin.ErrorCodeTimeout:
		code = core.PluginTimeout
	}
	return &Error{Code: code, Text: p.says("refused %s: %s", command, said.Message), cause: err}
}

// bounded keeps output up to its bound. Past it, it stops the process. The buffer is not embedded, because its
// ReadFrom would go round the bound.
type bounded struct {
	kept    bytes.Buffer
	stop    func()
	flooded bool
}

// Write fails past the bound.
func (b *bounded) Write(data []byte) (int, error) {
	if b.kept.Len()+len(data) > maxOutput {
		b.flooded = true
		b.stop()
		return 0, errors.New("too much output")
	}
	return b.kept.Write(data)
}
