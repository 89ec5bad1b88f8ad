package release

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	provenance "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// Types of the provenance.
const (
	TypeProvenance = "application/vnd.in-toto.provenance+json" // of the artifact
	mediaStatement = "application/vnd.in-toto+json"            // of its layer
	predicateSLSA  = "https://slsa.dev/provenance/v1"

	// BuildType is where the README says what the parameters mean.
	BuildType = SourceURL + "/blob/main/release/README.md#provenance"

	// LocalBuilder is the builder where none is named: somebody's own machine.
	LocalBuilder = SourceURL + "/blob/main/release/README.md#a-local-builder"
)

// subject is what provenance is about.
type subject struct {
	name, digest string // "sha256:" and hexadecimal
}

// statement writes the provenance of subjects: an in-toto Statement v1 with the predicate SLSA Provenance v1. It holds no time and no
// identifier of the run, so that the same build has the same provenance.
// https://slsa.dev/spec/v1.1/provenance
func (m *maker) statement(subjects []subject) ([]byte, error) {
	external, err := structpb.NewStruct(m.parameters())
	if err != nil {
		return nil, err
	}
	internal, err := structpb.NewStruct(map[string]any{
		"goVersion": m.binaries[0].Info.GoVersion, "flags": strings.Join(Flags(), " "), "linkerFlags": LinkerFlags(m.options.Version, m.source),
	})
	if err != nil {
		return nil, err
	}
	dependencies, err := m.dependencies()
	if err != nil {
		return nil, err
	}
	predicate := &provenance.Provenance{
		BuildDefinition: &provenance.BuildDefinition{
			BuildType: BuildType, ExternalParameters: external, InternalParameters: internal, ResolvedDependencies: dependencies,
		},
		RunDetails: &provenance.RunDetails{Builder: &provenance.Builder{Id: m.options.Builder}},
	}
	if err := predicate.Validate(); err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	statement := &intoto.Statement{Type: intoto.StatementTypeUri, PredicateType: predicateSLSA}
	for _, s := range subjects {
		statement.Subject = append(statement.Subject, &intoto.ResourceDescriptor{Name: s.name, Digest: map[string]string{"sha256": strings.TrimPrefix(s.digest, "sha256:")}})
	}
	if statement.Predicate, err = structOf(predicate); err != nil {
		return nil, err
	}
	if err := statement.Validate(); err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	return canonical(statement)
}

// parameters are what whoever starts the build chooses.
func (m *maker) parameters() map[string]any {
	platforms := []any{}
	for _, platform := range m.options.Platforms {
		platforms = append(platforms, platform.String())
	}
	parameters := map[string]any{
		"source": "git+" + SourceURL, "version": m.options.Version, "repository": m.options.Repository, "chartRepository": m.options.ChartRepository, "platforms": platforms,
	}
	if len(m.options.Plugin.Sums) > 0 {
		sums := []any{}
		for _, sum := range m.options.Plugin.Sums {
			sums = append(sums, sum)
		}
		parameters["plugin"] = map[string]any{"release": m.options.Plugin.Release, "sha256": sums}
	}
	return parameters
}

// dependencies are the commit, the plugin's archives, and the modules by the hashes of go.sum.
// https://github.com/in-toto/attestation/blob/main/spec/v1/digest_set.md
func (m *maker) dependencies() ([]*intoto.ResourceDescriptor, error) {
	found := []*intoto.ResourceDescriptor{{Uri: "git+" + SourceURL, Digest: map[string]string{"gitCommit": m.source.Commit}}}
	for _, component := range m.all() {
		algorithm, sum, _ := strings.Cut(component.Sum, ":")
		switch algorithm {
		case "h1":
			raw, err := base64.StdEncoding.DecodeString(sum)
			if err != nil {
				return nil, fmt.Errorf("the sum of %s: %w", component.Name, err)
			}
			found = append(found, &intoto.ResourceDescriptor{Uri: component.PURL, Digest: map[string]string{"dirHash1": hex.EncodeToString(raw)}})
		case "sha256":
			found = append(found, &intoto.ResourceDescriptor{Uri: component.PURL, Digest: map[string]string{"sha256": sum}})
		default:
			found = append(found, &intoto.ResourceDescriptor{Uri: component.PURL})
		}
	}
	return found, nil
}

func structOf(message proto.Message) (*structpb.Struct, error) {
	text, err := protojson.Marshal(message)
	if err != nil {
		return nil, err
	}
	content := &structpb.Struct{}
	return content, protojson.Unmarshal(text, content)
}

// canonical writes a message as JSON that is the same each time: protojson varies its white space.
func canonical(message proto.Message) ([]byte, error) {
	text, err := protojson.Marshal(message)
	if err != nil {
		return nil, err
	}
	var content any
	if err := json.Unmarshal(text, &content); err != nil {
		return nil, err
	}
	var sorted bytes.Buffer
	encoder := json.NewEncoder(&sorted)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err = encoder.Encode(content)
	return sorted.Bytes(), err
}
