package function

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

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

// eventOf reads a CloudEvent (CloudEvents 1.0.2, HTTP protocol binding, sections 3.1 and 3.2) from the header and the body of a request,
// and validates it.
func eventOf(ctx context.Context, header http.Header, body []byte) (event *cloudevents.Event, err error) {
	message := eventMessage{header: header, body: io.NopCloser(bytes.NewReader(body)), format: format.Lookup(header.Get("Content-Type"))}
	switch message.format {
	case format.JSONBatch:
		return nil, errors.New("it is a batch; send events one by one")
	case nil:
		message.version = eventAttributes.Version(decodedHeader(header.Get(eventAttributes.PrefixedSpecVersionName())))
	}
	defer func() {
		if r := recover(); r != nil { // of the SDK, on some members of a wrong type
			event, err = nil, fmt.Errorf("it cannot be read: %v", r)
		}
	}()
	if event, err = binding.ToEvent(ctx, message); err != nil {
		return nil, err
	}
	if event.SpecVersion() != cloudevents.CloudEventsVersionV1 {
		return nil, fmt.Errorf("its specversion is %q; send events of version 1.0", event.SpecVersion())
	}
	return event, event.Validate()
}

// decodedHeader is the value of an attribute in a header (HTTP protocol binding, section 3.1.3.2): quoted as older versions of CloudEvents had it,
// or percent-encoded. What is encoded wrongly is taken as it is.
func decodedHeader(value string) string {
	if inner, ok := strings.CutPrefix(value, `"`); ok && strings.HasSuffix(inner, `"`) {
		value = escaped.ReplaceAllString(strings.TrimSuffix(inner, `"`), "$1")
	}
	if decoded, err := url.PathUnescape(value); err == nil && utf8.ValidString(decoded) {
		return decoded
	}
	return value
}

// escaped is an escaped character of a quoted text (RFC 7230, section 3.2.6).
var escaped = regexp.MustCompile(`\\(.)`)

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
		value := decodedHeader(m.header.Get(name)) // the first, where there are several
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
