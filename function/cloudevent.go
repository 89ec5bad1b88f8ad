package function

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/format"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	cloudevents "github.com/cloudevents/sdk-go/v2/event"
)

// headerEvent begins the names of headers with the attributes of an event.
const headerEvent = "Ce-"

// eventAttributes knows the attributes of an event by their headers.
var eventAttributes = spec.WithPrefixMatchExact(func(attribute string) string {
	if attribute == "datacontenttype" {
		return "Content-Type"
	}
	return textproto.CanonicalMIMEHeaderKey(headerEvent + attribute)
}, headerEvent)

// eventOf reads a CloudEvent (CloudEvents 1.0.2, HTTP protocol binding, sections 3.1 and 3.2) from a request. The caller bounds the
// body, and validates the event.
func eventOf(r *http.Request) (*cloudevents.Event, error) {
	message := eventMessage{header: r.Header, body: r.Body, format: format.Lookup(r.Header.Get("Content-Type"))}
	switch message.format {
	case format.JSONBatch:
		return nil, errors.New("it is a batch; send events one by one")
	case nil:
		message.version = eventAttributes.Version(r.Header.Get(eventAttributes.PrefixedSpecVersionName()))
	}
	return binding.ToEvent(r.Context(), message)
}

// eventMessage is a request as the SDK of CloudEvents reads one. It stands in for the SDK's own package of this binding, with which
// a client and a logger come along.
type eventMessage struct {
	binding.MessageMetadataReader // nil: binding.DirectWrite wants it for transformers, of which there are none

	header  http.Header
	body    io.ReadCloser
	format  format.Format // of the whole event; nil outside of structured mode
	version spec.Version  // nil outside of binary mode
}

// ReadEncoding is part of binding.MessageReader.
func (m eventMessage) ReadEncoding() binding.Encoding {
	switch {
	case m.version != nil:
		return binding.EncodingBinary
	case m.format != nil:
		return binding.EncodingStructured
	}
	return binding.EncodingUnknown
}

// ReadStructured is part of binding.MessageReader.
func (m eventMessage) ReadStructured(ctx context.Context, to binding.StructuredWriter) error {
	if m.format == nil {
		return binding.ErrNotStructured
	}
	return to.SetStructuredEvent(ctx, m.format, m.body)
}

// ReadBinary is part of binding.MessageReader.
func (m eventMessage) ReadBinary(_ context.Context, to binding.BinaryWriter) error {
	if m.version == nil {
		return binding.ErrNotBinary
	}
	for name := range m.header {
		var err error
		value := m.header.Get(name) // the first, where there are several
		if attribute := m.version.Attribute(name); attribute != nil {
			err = to.SetAttribute(attribute, value)
		} else if extension, ok := strings.CutPrefix(name, headerEvent); ok {
			err = to.SetExtension(strings.ToLower(extension), value)
		}
		if err != nil {
			return err
		}
	}
	return to.SetData(m.body)
}
