package record_test

import (
	"bytes"
	"encoding"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

var update = flag.Bool("update", false, "write the schema")

const schemaFile = "decision.schema.json"

// meanings are what the schema says of the fields of a record itself.
var meanings = map[string]string{
	"version": "Version of this form.", "id": "ULID of the decision.", "time": "Time of the request, for which was decided.",
	"tookMicros": "Microseconds from the request to the verdict.", "replica": "Host name of the replica that decided.", "endpoint": "Path of the request.",
	"caller": "User, as authenticated; absent where callers are not.", "background": "Whether nobody waited for the answer.",
	"request": "The body that was decided on: its digest and its size in bytes.", "object": "The object under admission, as the request says.",
	"plan": "The plan of the request, with the trust that it was made under.", "evidence": "What was found out, one entry per task of the plan.",
	"outcome": "admitted, denied, failed, timed out or busy.", "verdict": "The verdict, as /verify answers it but for the id of the decision.",
	"patches": "The patches, as /checkimages answers them.", "altered": "Texts of the answer were changed for the record: secrets hidden, or what is not UTF-8.",
	"replayable": "Nothing was cut, so that the core can decide again on the record.", "cut": "What was left out to keep the bound of 262144 bytes.",
}

// schemaOf describes what encoding/json makes of a type.
func schemaOf(of reflect.Type) map[string]any {
	switch {
	case of == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case of == reflect.TypeFor[verification.Kind]():
		var kinds []string
		for kind := range verification.Conclude {
			kinds = append(kinds, kind.String())
		}
		return map[string]any{"enum": kinds}
	case of == reflect.TypeFor[record.How]():
		return map[string]any{"enum": []record.How{record.WorkedOut, record.Kept, record.Shared, record.Unfinished}}
	case of == reflect.TypeFor[[]byte]():
		return map[string]any{"type": "string", "contentEncoding": "base64"}
	case of.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return map[string]any{"type": "string"}
	}
	switch of.Kind() {
	case reflect.Pointer:
		return schemaOf(of.Elem())
	case reflect.Slice:
		return map[string]any{"type": []string{"array", "null"}, "items": schemaOf(of.Elem())}
	case reflect.Map:
		return map[string]any{"type": []string{"object", "null"}, "additionalProperties": schemaOf(of.Elem())}
	case reflect.Struct:
		if known, ok := definitions[of.Name()]; ok && known.of != of {
			panic(fmt.Sprintf("%s and %s have one name", of, known.of))
		}
		definitions[of.Name()] = definition{of, structure(of)}
		return map[string]any{"$ref": "#/$defs/" + of.Name()}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.String:
		return map[string]any{"type": "string"}
	}
	panic(fmt.Sprintf("no schema for %s", of))
}

// definitions are the structures so far, by name.
var definitions = map[string]definition{}

type definition struct {
	of     reflect.Type
	schema map[string]any
}

func structure(of reflect.Type) map[string]any {
	schema := map[string]any{"type": "object", "additionalProperties": false}
	properties, required := map[string]any{}, []string{}
	fieldsOf(of, properties, &required)
	schema["properties"] = properties
	if len(required) > 0 {
		slices.Sort(required)
		schema["required"] = required
	}
	return schema
}

func fieldsOf(of reflect.Type, properties map[string]any, required *[]string) {
	for i := range of.NumField() {
		field := of.Field(i)
		tag, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous && tag == "":
			fieldsOf(field.Type, properties, required)
			continue
		case tag == "-" || !field.IsExported():
			continue
		case tag == "":
			panic(fmt.Sprintf("%s.%s has no name in a record", of, field.Name))
		}
		properties[tag] = schemaOf(field.Type)
		if strings.Contains(options, "string") {
			properties[tag] = map[string]any{"type": "string", "pattern": "^-?[0-9]+$"}
		}
		if !strings.Contains(options, "omit") {
			*required = append(*required, tag)
		}
	}
}

// TestSchemaIsCurrent compares the schema with the types.
func TestSchemaIsCurrent(t *testing.T) {
	schema := structure(reflect.TypeFor[record.Record]())
	defs := map[string]any{}
	for name, definition := range definitions {
		defs[name] = definition.schema
	}
	schema["$defs"] = defs
	properties := schema["properties"].(map[string]any)
	for name, meaning := range meanings {
		properties[name].(map[string]any)["description"] = meaning
	}
	if len(meanings) != len(properties) {
		t.Errorf("%d of %d fields are described", len(meanings), len(properties))
	}
	properties["version"].(map[string]any)["const"] = record.Version
	properties["id"].(map[string]any)["pattern"] = "^[0-9A-HJKMNP-TV-Z]{26}$"
	schema["$schema"], schema["$id"], schema["title"] = "https://json-schema.org/draft/2020-12/schema", "https://github.com/nirmata/kyverno-notation-venafi/core/record/"+schemaFile, "The record of a decision"
	var want bytes.Buffer
	encoder := json.NewEncoder(&want)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(schema); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(schemaFile, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(schemaFile)
	if err != nil || !bytes.Equal(have, want.Bytes()) {
		t.Errorf("%s is not what the types say (%v); run go test ./core/record -run Schema -update", schemaFile, err)
	}
}
