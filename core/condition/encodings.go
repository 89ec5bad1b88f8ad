package condition

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"sigs.k8s.io/yaml"
)

// encodings adds the functions that encode, decode and hash texts.
func (l functions) encodings() {
	l.add("base64_encode", linear, func(a []any) (any, error) { return base64.StdEncoding.EncodeToString([]byte(textOf(a, 0))), nil }, "string")
	l.add("base64_decode", linear, base64Decode, "string")
	l.add("parse_yaml", yamlCost, parseYAML, "string")
	l["parse_json"] = taking(parseJSON, "string")
	hashed := func(_ *evaluation, a []any) (int, int) { return 4 * lengths(a), lengths(a) }
	l.add("md5", hashed, func(a []any) (any, error) {
		sum := md5.Sum([]byte(textOf(a, 0)))
		return hex.EncodeToString(sum[:]), nil
	}, "string")
	l.add("sha1", hashed, func(a []any) (any, error) {
		sum := sha1.Sum([]byte(textOf(a, 0)))
		return hex.EncodeToString(sum[:]), nil
	}, "string")
	l.add("sha256", hashed, func(a []any) (any, error) {
		sum := sha256.Sum256([]byte(textOf(a, 0)))
		return hex.EncodeToString(sum[:]), nil
	}, "string")
}

func base64Decode(a []any) (any, error) {
	decoded, err := base64.StdEncoding.DecodeString(textOf(a, 0))
	if err != nil {
		return nil, err
	}
	return string(decoded), nil
}

func parseYAML(a []any) (any, error) {
	written, err := yaml.YAMLToJSON([]byte(textOf(a, 0)))
	if err != nil {
		return nil, err
	}
	var value any
	if err := json.Unmarshal(written, &value); err != nil {
		return nil, err
	}
	return value, nil
}

func parseJSON(e *evaluation, a []any, _ int) (any, error) {
	text := textOf(a, 0)
	e.grow(len(text))
	value, err := decode([]byte(text), e.budget)
	var syntax errSyntax
	switch {
	case errors.As(err, &syntax):
		return nil, fmt.Errorf("fails: %s", cut(err.Error()))
	case err != nil:
		refuse("the expression %q reads JSON that is refused: %s", quoted(e.expression), cut(err.Error()))
	}
	return value, nil
}

// anchorShape matches what may be an anchor or an alias.
var anchorShape = regexp.MustCompile(`(^|[\s\[\]{},:-])[&*][^\s]`)

// maxYAML bounds a YAML document, bytes.
const maxYAML = 64 << 10

func yamlCost(e *evaluation, a []any) (steps, bytes int) {
	text := textOf(a, 0)
	steps, bytes = short(maxYAML, 80, 100)(e, a)
	if anchorShape.MatchString(text) {
		refuse("the expression %q reads YAML with anchors or aliases (& and *), which are not followed", quoted(e.expression))
	}
	return steps, bytes
}
