package openapi

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	validation "github.com/pb33f/libopenapi-validator/config"
	"github.com/pb33f/libopenapi-validator/schema_validation"
	"golang.org/x/tools/txtar"
)

// The description of the HTTP API, and what is held against it.
const (
	openAPIFile  = "../openapi.yaml"
	exchangesDir = "../testdata/exchanges"
	goldenDir    = "../../testdata/golden"
)

// openAPI is the description, read.
func openAPI(t *testing.T) (libopenapi.Document, validator.Validator) {
	t.Helper()
	text, err := os.ReadFile(openAPIFile)
	if err != nil {
		t.Fatal(err)
	}
	document, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	// Whether a caller is known is for the service to say: the answers to strangers are among the exchanges.
	checker, errs := validator.NewValidator(document, validation.WithFormatAssertions(), validation.WithoutSecurityValidation())
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return document, checker
}

func TestTheAPIIsDescribedInOpenAPI(t *testing.T) {
	document, checker := openAPI(t)
	if version := document.GetVersion(); !strings.HasPrefix(version, "3.1.") {
		t.Errorf("the version is %s", version)
	}
	if ok, errs := checker.ValidateDocument(); !ok {
		t.Errorf("it is not valid: %v", errs)
	}
}

// parsed is an archive's request and answer.
func parsed(t *testing.T, archive *txtar.Archive) (*http.Request, *http.Response) {
	t.Helper()
	if len(archive.Files) != 2 {
		t.Fatalf("%d files", len(archive.Files))
	}
	head, body, _ := strings.Cut(string(archive.Files[0].Data), "\n\n")
	lines := strings.Split(head, "\n")
	method, path, _ := strings.Cut(lines[0], " ")
	request, err := http.NewRequestWithContext(t.Context(), method, "https://svc.kyverno-notation-venafi.svc"+path, strings.NewReader(strings.TrimSuffix(body, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = headers(lines[1:])
	if method == http.MethodPost && request.Header.Get("Content-Type") == "" {
		request.Header.Set("Content-Type", "application/json") // of Kyverno's apiCall, which sends none
	}
	head, body, _ = strings.Cut(string(archive.Files[1].Data), "\n\n")
	lines = strings.Split(strings.TrimSuffix(head, "\n"), "\n")
	status, err := strconv.Atoi(lines[0])
	if err != nil {
		t.Fatal(err)
	}
	return request, &http.Response{StatusCode: status, Header: headers(lines[1:]), Body: io.NopCloser(strings.NewReader(body)), Request: request}
}

func headers(lines []string) http.Header {
	header := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		header.Set(name, value)
	}
	return header
}

// TestTheHandlersAnswerAsDescribed holds the golden exchanges of the handlers against the description. The request of a 400 need
// not be as described.
func TestTheHandlersAnswerAsDescribed(t *testing.T) {
	_, checker := openAPI(t)
	for path, archive := range archives(t, exchangesDir, 15) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			request, response := parsed(t, archive)
			if ok, errs := checker.ValidateHttpResponse(request, response); !ok {
				t.Errorf("the answer: %v", errs)
			}
			if ok, errs := checker.ValidateHttpRequest(request); !ok && response.StatusCode != http.StatusBadRequest {
				t.Errorf("the request: %v", errs)
			}
		})
	}
}

// TestWrongAnswersAreFound shows that TestTheHandlersAnswerAsDescribed can fail.
func TestWrongAnswersAreFound(t *testing.T) {
	_, checker := openAPI(t)
	for sentence, c := range map[string]struct{ file, old, changed string }{
		"a status that is not described": {"checkimages-200", "200\n", "202\n"},
		"another type of content":        {"checkimages-200", "200\nContent-Type: application/json", "200\nContent-Type: text/html"},
		"a field of another type":        {"verify-200", `"verified":true`, `"verified":"true"`},
		"a field that is missing":        {"verify-200", `"kind":"container",`, ""},
		"a code that nobody knows":       {"verify-200", `"NoSignature"`, `"Unsigned"`},
		"a digest that is none":          {"verify-200", `"digest":"sha256:`, `"digest":"md5:`},
		"an operation without a value":   {"verify-200", `,"value":`, `,"values":`},
		"a patch without its pointer":    {"checkimages-200", `"path":`, `"paths":`},
		"a denial that says verified":    {"checkimages-406-json", `{"verified":false`, `{"verified":true`},
	} {
		t.Run(sentence, func(t *testing.T) {
			archive := archives(t, exchangesDir, 15)[filepath.Join(exchangesDir, c.file+".txtar")]
			answer := &archive.Files[1].Data
			changed := strings.Replace(string(*answer), c.old, c.changed, 1)
			if changed == string(*answer) {
				t.Fatalf("%s has no %q", c.file, c.old)
			}
			*answer = []byte(changed)
			if ok, _ := checker.ValidateHttpResponse(parsed(t, archive)); ok {
				t.Error("it is not found")
			}
		})
	}
}

// TestGoldenCasesAreAsDescribed holds the requests, verdicts and patches of the core's golden cases against the schemas. A request
// that the core refuses may be as described, since a schema cannot say everything.
func TestGoldenCasesAreAsDescribed(t *testing.T) {
	document, _ := openAPI(t)
	model, err := document.BuildV3Model()
	if err != nil {
		t.Fatal(err)
	}
	schemas := schema_validation.NewSchemaValidator(validation.WithFormatAssertions())
	valid := func(schema string, text []byte) error {
		proxy, ok := model.Model.Components.Schemas.Get(schema)
		if !ok {
			t.Fatalf("there is no schema %s", schema)
		}
		if ok, errs := schemas.ValidateSchemaBytes(proxy.Schema(), text); !ok {
			return errs[0]
		}
		return nil
	}
	held := map[string]int{}
	for path, archive := range archives(t, goldenDir, 100) {
		sections := map[string][]byte{}
		for _, file := range archive.Files {
			sections[file.Name] = file.Data
		}
		for section, schema := range map[string]string{"request.json": "Request", "verdict.json": "Verdict"} {
			if text := sections[section]; text != nil && sections["error.txt"] == nil {
				held[section]++
				if err := valid(schema, text); err != nil {
					t.Errorf("%s: %s: %v", path, section, err)
				}
			}
		}
		if patches := sections["patches.json"]; patches != nil {
			held["patches.json"]++
			answer := append([]byte(`{"verified": true, "message": "m", "results": `), append(patches, '}')...)
			if err := valid("Patches", answer); err != nil {
				t.Errorf("%s: patches.json: %v", path, err)
			}
		}
	}
	if held["request.json"] < 100 || held["verdict.json"] < 100 || held["patches.json"] < 30 {
		t.Errorf("only %v were held", held)
	}
}

// TestRequestsThatAreRefusedAreNotAsDescribed is about what a schema can say.
func TestRequestsThatAreRefusedAreNotAsDescribed(t *testing.T) {
	_, checker := openAPI(t)
	for sentence, body := range map[string]string{
		"nothing":                             `{}`,
		"an unknown field":                    `{"object":{},"attestation":[]}`,
		"both forms":                          `{"object":{},"images":{}}`,
		"a wrong type":                        `{"object":{},"trustPolicy":7}`,
		"an empty policy":                     `{"object":{},"trustPolicy":""}`,
		"a null":                              `{"object":{},"attestations":null}`,
		"a condition without key":             `{"object":{},"attestations":[{"imageReference":"*","type":[{"name":"sbom","conditions":{"all":[{"operator":"Equals","value":1}]}}]}]}`,
		"an empty list of conditions":         `{"object":{},"attestations":[{"imageReference":"*","type":[{"name":"sbom","conditions":{"all":[]}}]}]}`,
		"an attestation of no type":           `{"object":{},"attestations":[{"imageReference":"*","type":[]}]}`,
		"a selection that there is not":       `{"object":{},"attestations":[{"imageReference":"*","type":[{"name":"sbom","select":"first"}]}]}`,
		"an image without a pointer":          `{"images":{"containers":{"web":{"reference":"ghcr.io/acme/app"}}}}`,
		"a pointer that begins with no slash": `{"images":{"containers":{"web":{"jsonPointer":"spec"}}}}`,
	} {
		t.Run(sentence, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://svc.kyverno-notation-venafi.svc/verify", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/json")
			if ok, _ := checker.ValidateHttpRequest(request); ok {
				t.Error("it is as described")
			}
		})
	}
}

// archives reads a folder's archives, of which there are so many at least.
func archives(t *testing.T, dir string, least int) map[string]*txtar.Archive {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(paths) < least {
		t.Fatalf("%s has %d archives, %v", dir, len(paths), err)
	}
	all := map[string]*txtar.Archive{}
	for _, path := range paths {
		if all[path], err = txtar.ParseFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return all
}
