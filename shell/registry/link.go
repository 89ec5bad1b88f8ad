package registry

import (
	"fmt"
	"net/url"
	"strings"
)

// maxLink bounds the URL of a page, bytes, since the URLs that were fetched are remembered.
const maxLink = 8 << 10

// nextLinks finds the targets of the links with the relation "next" in the Link fields of an answer (RFC 8288,
// section 3). It fails where they cannot be read, since an overlooked link would cut a list short.
func nextLinks(fields []string) (targets []string, err error) {
	for _, field := range fields {
		rest := field
		for {
			if rest = strings.TrimLeft(rest, " \t,"); rest == "" {
				break
			}
			var target string
			var isNext bool
			if target, isNext, rest, err = cutLink(rest); err != nil {
				return nil, fmt.Errorf("its link %q cannot be read: %w", field, err)
			}
			if isNext {
				targets = append(targets, target)
			}
		}
	}
	return targets, nil
}

// cutLink reads one link-value, "<target>" and its parameters, up to the comma after it.
func cutLink(text string) (target string, isNext bool, rest string, err error) {
	inside, found := strings.CutPrefix(text, "<")
	target, rest, closed := strings.Cut(inside, ">")
	if !found || !closed {
		return "", false, "", fmt.Errorf("there is no <address>")
	}
	hasRel := false
	for {
		rest = strings.TrimLeft(rest, " \t")
		if rest == "" || rest[0] == ',' {
			return target, isNext, rest, nil
		}
		if rest[0] != ';' {
			return "", false, "", fmt.Errorf("there is no ; before %q", rest)
		}
		var name, value string
		if name, value, rest, err = cutParameter(strings.TrimLeft(rest[1:], " \t")); err != nil {
			return "", false, "", err
		}
		if strings.EqualFold(name, "rel") && !hasRel { // all but the first are to be ignored
			hasRel, isNext = true, hasToken(value, "next")
		}
	}
}

func hasToken(list, wanted string) bool {
	for token := range strings.FieldsSeq(list) {
		if strings.EqualFold(token, wanted) {
			return true
		}
	}
	return false
}

// cutParameter reads name, name=token or name="quoted", with the white space that old clients put around the equals sign.
func cutParameter(text string) (name, value, rest string, err error) {
	end := strings.IndexAny(text, "=;,")
	if end < 0 {
		end = len(text)
	}
	name, rest = strings.TrimSpace(text[:end]), text[end:]
	if strings.Contains(name, `"`) { // which two readers would read differently
		return "", "", "", fmt.Errorf("there is a quote in the name %q", name)
	}
	if !strings.HasPrefix(rest, "=") {
		return name, "", rest, nil
	}
	rest = strings.TrimLeft(rest[1:], " \t")
	if !strings.HasPrefix(rest, `"`) {
		if end = strings.IndexAny(rest, ";,"); end < 0 {
			end = len(rest)
		}
		if value = strings.TrimSpace(rest[:end]); strings.Contains(value, `"`) {
			return "", "", "", fmt.Errorf("there is a quote in the value %q", value)
		}
		return name, value, rest[end:], nil
	}
	value, rest, err = unquote(rest[1:])
	return name, value, rest, err
}

// unquote reads a quoted string after its first quote (RFC 9110, section 5.6.4).
func unquote(text string) (value, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			return b.String(), text[i+1:], nil
		case '\\':
			if i++; i == len(text) {
				return "", "", fmt.Errorf("a quote is not closed")
			}
		}
		b.WriteByte(text[i])
	}
	return "", "", fmt.Errorf("a quote is not closed")
}

// nextPage finds the URL of the page after page, which must be at the registry itself; nil after the last page.
func nextPage(root, page *url.URL, fields []string) (*url.URL, error) {
	targets, err := nextLinks(fields)
	if err != nil {
		return nil, err
	}
	var next *url.URL
	for _, target := range targets {
		if len(target) > maxLink {
			return nil, fmt.Errorf("the address of its next page has %d bytes, which is over the bound of %d", len(target), maxLink)
		}
		reference, err := url.Parse(target)
		if err != nil {
			return nil, fmt.Errorf("its next page is at %q, which is no address", target)
		}
		found := page.ResolveReference(reference)
		if !sameOrigin(found, root) {
			return nil, fmt.Errorf("its next page is at %s, which is another host", found.Redacted())
		}
		if next != nil && next.String() != found.String() {
			return nil, fmt.Errorf("it has two next pages, %s and %s", next.Redacted(), found.Redacted())
		}
		next = found
	}
	return next, nil
}

// sameOrigin compares scheme, host and port.
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && a.User == nil && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" || u.Scheme != "https" && u.Scheme != "http" {
		return port
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}
