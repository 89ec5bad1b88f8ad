package release

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/x509"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory" // the storage driver named below
	v1 "github.com/google/go-containerregistry/pkg/v1"
	gcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/licenseclassifier/v2/assets"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"oras.land/oras-go/v2/content/oci"
)

var (
	platforms = flag.String("platforms", "linux/"+runtime.GOARCH, "platforms that are built, comma-separated")
	cold      = flag.Bool("cold", false, "build each time with an empty build cache")
)

// The repositories that the releases of the tests name.
const (
	testRepository = "registry.example.com/nirmata/kyverno-notation-venafi"
	testCharts     = "registry.example.com/nirmata/charts/kyverno-notation-venafi"
	testPlugin     = "0123456789 the plugin"
)

// releases are two releases of one commit, made in different folders with different keys.
type releases struct {
	source  Source
	dirs    [2]string
	keys    [2]Key
	options Options
}

// made makes them once for all tests, in a folder that TestMain removes.
var made = sync.OnceValues(func() (*releases, error) {
	plugins := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(pluginTGZ()) }))
	defer plugins.Close()
	// The plugin's address is in the provenance, and must not have a port that is another one each time.
	r := &releases{options: Options{
		Version: "v1.2.3", Repository: testRepository, ChartRepository: testCharts, Builder: LocalBuilder, Log: io.Discard,
		Plugin: Plugin{Release: plugins.URL, Sums: []string{strings.TrimPrefix(digest.FromBytes(pluginTGZ()).String(), "sha256:")}},
	}}
	for _, text := range strings.Split(*platforms, ",") {
		platform, err := v1.ParsePlatform(text)
		if err != nil {
			return nil, err
		}
		r.options.Platforms = append(r.options.Platforms, *platform)
	}
	for n, name := range []string{"first", "the second one"} {
		if err := r.make(context.Background(), n, filepath.Join(work(), name)); err != nil {
			return nil, err
		}
	}
	return r, nil
})

func (r *releases) make(ctx context.Context, n int, dir string) (err error) {
	r.source = Source{Dir: filepath.Join(dir, "source"), Commit: strings.Repeat("0123456789", 4), Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	if err := copySource(ctx, r.source.Dir); err != nil {
		return err
	}
	if r.keys[n], err = ThrowAway(time.Now()); err != nil {
		return err
	}
	options := r.options
	options.Key, r.dirs[n] = r.keys[n], filepath.Join(dir, "release")
	if *cold {
		before := os.Getenv("GOCACHE")
		defer os.Setenv("GOCACHE", before)
		if err := os.Setenv("GOCACHE", filepath.Join(dir, "cache")); err != nil {
			return err
		}
	}
	return Make(ctx, r.source, options, r.dirs[n])
}

// copySource copies the files that git knows or would know, as they are in the working tree.
func copySource(ctx context.Context, to string) error {
	said, err := output(ctx, "..", nil, "git", "ls-files", "-co", "--exclude-standard", "-z")
	if err != nil {
		return err
	}
	for _, name := range strings.Split(strings.Trim(said, "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join("..", name))
		if errors.Is(err, os.ErrNotExist) { // removed, and not yet from the index
			continue
		}
		path := filepath.Join(to, name)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
			return err
		}
	}
	return nil
}

func pluginTGZ() []byte {
	packed, err := compressed([]file{{name: "notation-venafi-csp", mode: 0o755, content: []byte(testPlugin)}}, time.Unix(0, 0))
	if err != nil {
		panic(err)
	}
	return packed
}

func theReleases(t *testing.T) *releases {
	t.Helper()
	r, err := made()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// work is the folder of the releases.
var work = sync.OnceValue(func() string { return filepath.Join(os.TempDir(), fmt.Sprintf("release-test-%d", os.Getpid())) })

func TestMain(m *testing.M) {
	flag.Parse()
	status := m.Run()
	_ = os.RemoveAll(work())
	os.Exit(status)
}

// TestTheSameCommitGivesTheSameDigests: images, SBOMs, provenance, chart, manifests and programs, of checkouts in different folders.
// Signatures differ, by their keys alone.
func TestTheSameCommitGivesTheSameDigests(t *testing.T) {
	r := theReleases(t)
	for _, name := range []string{DigestsFile, SumsFile} {
		first, second := read(t, r.dirs[0], name), read(t, r.dirs[1], name)
		if first != second {
			t.Errorf("%s differs:\n%s\n%s", name, first, second)
		}
		t.Logf("%s\n%s", name, first)
	}
	first, second := read(t, r.dirs[0], SignedFile), read(t, r.dirs[1], SignedFile)
	if first == second || strings.Count(first, "\n") != strings.Count(second, "\n") {
		t.Errorf("the signatures are\n%s\n%s", first, second)
	}
	per := len(r.options.Platforms) + 1
	if lines := strings.Count(read(t, r.dirs[0], DigestsFile), "\n"); lines != 4*per+2 {
		t.Errorf("%d digests are told, of %d images with three attestations each, and a chart with one", lines, per)
	}
	if signatures := strings.Count(first, "\n"); signatures != 4*per+2 {
		t.Errorf("%d signatures", signatures)
	}
}

func read(t *testing.T, elements ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestTheImageIsThatOfTheDockerfile: what it runs, as whom, and what is in it.
func TestTheImageIsThatOfTheDockerfile(t *testing.T) {
	r := theReleases(t)
	index, err := gcrlayout.ImageIndexFromPath(filepath.Join(r.dirs[0], ImageLayout))
	if err != nil {
		t.Fatal(err)
	}
	tagged, err := Tagged(filepath.Join(r.dirs[0], ImageLayout))
	if err != nil {
		t.Fatal(err)
	}
	hash, err := v1.NewHash(tagged)
	if err != nil {
		t.Fatal(err)
	}
	if index, err = index.ImageIndex(hash); err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != len(r.options.Platforms) {
		t.Errorf("%d platforms", len(manifest.Manifests))
	}
	for n, descriptor := range manifest.Manifests {
		if !descriptor.Platform.Equals(r.options.Platforms[n]) {
			t.Errorf("%s stands where %s should", descriptor.Platform, r.options.Platforms[n])
		}
		image, err := index.Image(descriptor.Digest)
		if err != nil {
			t.Fatal(err)
		}
		holdsWhatItShould(t, image, *descriptor.Platform)
	}
}

func holdsWhatItShould(t *testing.T, image v1.Image, platform v1.Platform) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := config.Config
	if said := fmt.Sprint(c.User, c.Entrypoint, c.Cmd, c.Labels["org.opencontainers.image.version"], c.Labels["org.opencontainers.image.licenses"]); said != "65532:65532[/kyverno-notation-venafi] [serve]v1.2.3Apache-2.0" {
		t.Error(said)
	}
	files := extracted(t, image)
	if plugin := string(files["plugins/venafi-csp/notation-venafi-csp"]); plugin != testPlugin {
		t.Errorf("the plugin is %q", plugin)
	}
	if pool := x509.NewCertPool(); !pool.AppendCertsFromPEM(files["etc/ssl/certs/ca-certificates.crt"]) || bytes.Count(files["etc/ssl/certs/ca-certificates.crt"], []byte("BEGIN")) < 100 {
		t.Error("the root certificates are missing")
	}
	info, err := buildinfo.Read(bytes.NewReader(files["kyverno-notation-venafi"]))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, setting := range info.Settings {
		settings[setting.Key] = setting.Value
	}
	if said := settings["GOOS"] + "/" + settings["GOARCH"] + settings["CGO_ENABLED"] + settings["-trimpath"]; said != platform.OS+"/"+platform.Architecture+"0true" {
		t.Errorf("the program for %s was built with %s", platform, said)
	}
	if bytes.Contains(files["kyverno-notation-venafi"], []byte("release-test-")) {
		t.Error("the program holds a path of this machine")
	}
}

func extracted(t *testing.T, image v1.Image) map[string][]byte {
	t.Helper()
	stream := mutate.Extract(image)
	defer stream.Close()
	files := map[string][]byte{}
	for reader := tar.NewReader(stream); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(reader); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEveryComponentHasALicence, and the SBOMs name the modules of the program.
func TestEveryComponentHasALicence(t *testing.T) {
	r := theReleases(t)
	var bom struct {
		SpecVersion string
		Metadata    struct{ Component struct{ Name string } }
		Components  []struct {
			Name     string
			PURL     string
			Licenses []struct{ License struct{ ID string } }
		}
	}
	if err := json.Unmarshal([]byte(read(t, r.dirs[0], "sbom.cdx.json")), &bom); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, component := range bom.Components {
		found[component.Name] = true
		if len(component.Licenses) == 0 {
			t.Errorf("%s has no licence", component.Name)
		}
		for _, licence := range component.Licenses {
			if id := licence.License.ID; id == "" || strings.Contains(id, "GPL") {
				t.Errorf("%s has the licence %q", component.Name, id)
			}
		}
	}
	for _, name := range []string{"std", "golang.org/x/crypto", "golang.org/x/crypto/x509roots/fallback", "github.com/notaryproject/notation-go", "notation-venafi-csp"} {
		if !found[name] {
			t.Errorf("%s is not told", name)
		}
	}
	if len(bom.Components) < 50 || bom.Metadata.Component.Name != testRepository {
		t.Errorf("%d components of %s", len(bom.Components), bom.Metadata.Component.Name)
	}
	t.Logf("%d components", len(bom.Components))
}

func TestManifestsNameTheImageByDigest(t *testing.T) {
	r := theReleases(t)
	image, err := Tagged(filepath.Join(r.dirs[0], ImageLayout))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"install.yaml", "knative.yaml"} {
		for _, line := range strings.Split(read(t, r.dirs[0], name), "\n") {
			if named, ok := strings.CutPrefix(strings.TrimSpace(line), "image: "); ok && named != testRepository+"@"+image {
				t.Errorf("%s names %s", name, named)
			}
		}
		// So what tests find out about the manifests of the source holds for those of a release.
		source := read(t, r.source.Dir, "config", name)
		if released := strings.ReplaceAll(read(t, r.dirs[0], name), testRepository+"@"+image, "ghcr.io/nirmata/kyverno-notation-venafi:latest"); released != source {
			t.Errorf("%s is more than config/%[1]s with the image by digest", name)
		}
	}
}

// registries are those in which a release is verified: with the referrers API, and with the fallback tags of those without.
func registries() map[string]func(t *testing.T) Target {
	return map[string]func(*testing.T) Target{
		"with referrers API": func(t *testing.T) Target {
			registry := Serve()
			t.Cleanup(registry.Close)
			return registry.Target()
		},
		"without referrers API": func(t *testing.T) Target {
			logrus.SetLevel(logrus.PanicLevel)
			config := &configuration.Configuration{Storage: configuration.Storage{"inmemory": configuration.Parameters{}, "maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}}}}
			config.HTTP.Secret, config.Log.AccessLog.Disabled = "of no use to one process", true
			server := httptest.NewServer(handlers.NewApp(t.Context(), config))
			t.Cleanup(server.Close)
			return targetAt(server.URL)
		},
	}
}

func targetAt(url string) Target {
	host := strings.TrimPrefix(url, "http://")
	return Target{Repository: host + "/nirmata/kyverno-notation-venafi", ChartRepository: host + "/nirmata/charts/kyverno-notation-venafi", PlainHTTP: true}
}

// checked is a release with what verifies it.
func (r *releases) checked(t *testing.T) (checker *Checker, demands string) {
	t.Helper()
	checker, err := NewChecker(t.Context(), r.source, r.options.Version, r.dirs[0], true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = checker.Close() })
	demands = t.TempDir()
	if err := Demands(r.source, r.options.Builder, demands); err != nil {
		t.Fatal(err)
	}
	return checker, demands
}

func TestCheckVerifiesTheRelease(t *testing.T) {
	r := theReleases(t)
	checker, demands := r.checked(t)
	for name, serve := range registries() {
		t.Run(name, func(t *testing.T) {
			to := serve(t)
			if err := Push(t.Context(), r.dirs[0], to); err != nil {
				t.Fatal(err)
			}
			if err := Verify(t.Context(), demands, r.dirs[0], to, checker); err != nil {
				t.Error(err)
			}
			for _, tag := range []string{":v1.2.3", ":1.2.3"} {
				expect(t, checker, to.Repository+tag, filepath.Join(demands, imageDemands), "Verified", "")
			}
		})
	}
}

// expect checks a reference, and wants a code and words of the reason.
func expect(t *testing.T, checker *Checker, reference, demands, code, because string) {
	t.Helper()
	verdict, err := checker.Check(t.Context(), reference, demands)
	if err != nil {
		t.Fatal(err)
	}
	if verdict.Code != code || !strings.Contains(verdict.Reason, because) {
		t.Errorf("wanted %s with %q", code, because)
	}
	t.Logf("%s: %s", verdict.Code, verdict.Reason)
}

// TestOneByteChanged: somebody changes one byte and makes everything fit again that needs no key. Digests of what is above it change too,
// and the signatures are attached to what was changed.
func TestOneByteChanged(t *testing.T) {
	r := theReleases(t)
	checker, demands := r.checked(t)
	for name, change := range map[string]struct {
		layout, holds string // the blob that is changed is the one of the layout's that holds this
		by            string // what stands there instead
		demands, code string
		because       string // words of the reason
	}{
		"in the image":                        {ImageLayout, "Verifies Notation signatures and attestations", "Verifies notation signatures and attestations", imageDemands, "SignatureMismatch", "made for another image"},
		"in the CycloneDX SBOM":               {ImageLayout, `"bomFormat": "CycloneDX"`, `"bomFormat": "CycloneDx"`, imageDemands, "AttestationUntrusted", TypeCycloneDX},
		"in the SPDX SBOM":                    {ImageLayout, `"spdxVersion": "SPDX-2.3"`, `"spdxVersion": "SPDX-2.2"`, imageDemands, "AttestationUntrusted", TypeSPDX},
		"in the provenance":                   {ImageLayout, `"goVersion": "go`, `"goVersion": "g0`, imageDemands, "AttestationUntrusted", TypeProvenance},
		"in the chart":                        {ChartLayout, `"name":"kyverno-notation-venafi"`, `"name":"kyverno-notation-venafj"`, chartDemands, "SignatureMismatch", "made for another image"},
		"in the provenance of the chart":      {ChartLayout, `"version": "v1.2.3"`, `"version": "v1.2.4"`, chartDemands, "AttestationUntrusted", TypeProvenance},
		"in a signature's envelope, or three": {ChartLayout, `{"payload":"`, `{"paylobd":"`, chartDemands, "SignatureInvalid", "signature is invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(filepath.Join(r.dirs[0], change.layout))); err != nil {
				t.Fatal(err)
			}
			tamper(t, dir, change.holds, change.by)
			registry := Serve()
			defer registry.Close()
			to := registry.Target()
			if err := pushLayout(t.Context(), dir, to.Repository, true); err != nil {
				t.Fatal(err)
			}
			tagged, err := Tagged(dir)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, checker, to.Repository+"@"+tagged, filepath.Join(demands, change.demands), change.code, change.because)
		})
	}
}

// tamper changes the blobs of a layout that hold a text, and every manifest above.
func tamper(t *testing.T, dir, holds, by string) {
	t.Helper()
	blobs := filepath.Join(dir, "blobs", "sha256")
	renamed := map[string]string{holds: by}
	for len(renamed) > 0 {
		next := map[string]string{}
		entries, err := os.ReadDir(blobs)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			path := filepath.Join(blobs, entry.Name())
			content := read(t, path)
			changed := content
			for old, now := range renamed {
				changed = strings.ReplaceAll(changed, old, now)
			}
			if changed == content || strings.Contains(content, `"predicate"`) && len(renamed[holds]) == 0 || bytes.HasPrefix([]byte(content), []byte("\x7fELF")) {
				continue
			}
			if len(changed) != len(content) {
				t.Fatal("the change is no change of bytes")
			}
			sum := digest.FromString(changed).Encoded()
			if err := errors.Join(os.WriteFile(filepath.Join(blobs, sum), []byte(changed), 0o644), os.Remove(path)); err != nil {
				t.Fatal(err)
			}
			next[entry.Name()] = sum
		}
		if len(next) == 0 && renamed[holds] != "" {
			t.Fatalf("no blob holds %q", holds)
		}
		index := read(t, dir, ocispec.ImageIndexFile)
		for old, now := range next {
			index = strings.ReplaceAll(index, old, now)
		}
		if err := os.WriteFile(filepath.Join(dir, ocispec.ImageIndexFile), []byte(index), 0o644); err != nil {
			t.Fatal(err)
		}
		renamed = next
	}
}

// TestTheRegistryLies: it answers for a digest with other bytes.
func TestTheRegistryLies(t *testing.T) {
	r := theReleases(t)
	checker, demands := r.checked(t)
	for name, change := range map[string]struct {
		holds, code, because string
	}{
		"about the image":          {ocispec.MediaTypeImageIndex, "RegistryInvalid", "for manifest"},
		"about the CycloneDX SBOM": {`"bomFormat": "CycloneDX"`, "RegistryInvalid", TypeCycloneDX},
		"about the provenance":     {`"predicateType": "https://slsa.dev`, "RegistryInvalid", TypeProvenance},
	} {
		t.Run(name, func(t *testing.T) {
			var lie sync.Map // what digests are answered otherwise
			honest := Serve()
			defer honest.Close()
			lying := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
				parts := strings.Split(request.URL.Path, "/")
				if _, lies := lie.Load(parts[len(parts)-1]); !lies || request.Method != http.MethodGet {
					honest.store.ServeHTTP(w, request)
					return
				}
				answer := httptest.NewRecorder()
				honest.store.ServeHTTP(answer, request)
				body := answer.Body.Bytes()
				body[len(body)/2] ^= 1
				for name, values := range answer.Header() {
					w.Header()[name] = values
				}
				w.WriteHeader(answer.Code)
				_, _ = w.Write(body)
			}))
			defer lying.Close()
			to := targetAt(lying.URL)
			if err := Push(t.Context(), r.dirs[0], to); err != nil {
				t.Fatal(err)
			}
			for _, blob := range blobsWith(t, filepath.Join(r.dirs[0], ImageLayout), change.holds) {
				lie.Store(blob, true)
			}
			tagged, err := Tagged(filepath.Join(r.dirs[0], ImageLayout))
			if err != nil {
				t.Fatal(err)
			}
			expect(t, checker, to.Repository+"@"+tagged, filepath.Join(demands, imageDemands), change.code, change.because)
		})
	}
}

// blobsWith lists the digests of blobs that hold a text.
func blobsWith(t *testing.T, dir, text string) (found []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if content := read(t, path); strings.Contains(content, text) && strings.HasPrefix(content, "{") {
			found = append(found, "sha256:"+filepath.Base(path))
		}
	}
	if len(found) == 0 {
		t.Fatalf("no blob holds %q", text)
	}
	return found
}

// TestOwnConditionsHold: what is signed by the right key and says the wrong thing is denied.
func TestOwnConditionsHold(t *testing.T) {
	r := theReleases(t)
	checker, demands := r.checked(t)
	about := inImage{testRepository, "sha256:" + strings.Repeat("0", 64), "v1.2.3", r.source.Time, []Component{
		{Name: "std", PURL: "pkg:golang/std@1", Licences: []string{"BSD-3-Clause"}}, {Name: "readline", PURL: "pkg:golang/readline@1", Licences: []string{"GPL-3.0"}},
	}}
	unknown := about
	unknown.components = []Component{about.components[0], {Name: "odd", PURL: "pkg:golang/odd@1"}}
	foreignProvenance := strings.Replace(read(t, r.dirs[0], "provenance.intoto.json"), LocalBuilder, "https://example.com/laptop", 1)
	vex := func(status string) []byte {
		return []byte(`{"statements":[{"vulnerability":{"name":"GO-2026-0001"},"status":"` + status + `"}]}`)
	}
	for name, tt := range map[string]struct {
		artifactType string
		document     []byte
		demands      string
		code         string
		because      string
	}{
		"a component under the GPL, in CycloneDX":   {TypeCycloneDX, written(t, about.cycloneDX), imageDemands, "ConditionUnmet", `found ["BSD-3-Clause","GPL-3.0"]`},
		"a component under the GPL, in SPDX":        {TypeSPDX, written(t, about.spdx), imageDemands, "ConditionUnmet", `found ["Apache-2.0","BSD-3-Clause","GPL-3.0"]`},
		"a component without licence, in CycloneDX": {TypeCycloneDX, written(t, unknown.cycloneDX), imageDemands, "ConditionUnmet", `found ["odd"]`},
		"a component without licence, in SPDX":      {TypeSPDX, written(t, unknown.spdx), imageDemands, "ConditionUnmet", `found ["Apache-2.0","BSD-3-Clause","NOASSERTION"]`},
		"another builder":                           {TypeProvenance, []byte(foreignProvenance), imageDemands, "ConditionUnmet", "https://example.com/laptop"},
		"a vulnerability that is called":            {TypeVEX, vex("affected"), scanDemands, "ConditionUnmet", "GO-2026-0001"},
		"a vulnerability that is looked into":       {TypeVEX, vex("under_investigation"), scanDemands, "ConditionUnmet", "GO-2026-0001"},
		"a vulnerability that is not called":        {TypeVEX, vex("not_affected"), scanDemands, "Verified", ""},
		"no vulnerability":                          {TypeVEX, []byte(`{"statements":null}`), scanDemands, "Verified", ""},
		"no scan":                                   {"", nil, scanDemands, "AttestationMissing", TypeVEX},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(filepath.Join(r.dirs[0], ImageLayout))); err != nil {
				t.Fatal(err)
			}
			tagged, err := Tagged(dir)
			if err != nil {
				t.Fatal(err)
			}
			if tt.document != nil {
				attachSigned(t, r, dir, tagged, tt.artifactType, tt.document)
			}
			registry := Serve()
			defer registry.Close()
			to := registry.Target()
			if err := pushLayout(t.Context(), dir, to.Repository, true); err != nil {
				t.Fatal(err)
			}
			expect(t, checker, to.Repository+"@"+tagged, filepath.Join(demands, tt.demands), tt.code, tt.because)
		})
	}
}

func written(t *testing.T, write func() ([]byte, error)) []byte {
	t.Helper()
	text, err := write()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// attachSigned attaches a document to the image of a layout, signed with the first release's key.
func attachSigned(t *testing.T, r *releases, dir, to, artifactType string, document []byte) {
	t.Helper()
	signing, _, err := r.keys[0].open()
	if err != nil {
		t.Fatal(err)
	}
	store, err := oci.NewWithContext(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	image, err := store.Resolve(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	image.Annotations = nil
	into := &layout{Store: store, at: r.source.Time, signer: signing}
	if _, err := into.attach(t.Context(), "the wrong one", image, artifactType, artifactType, document); err != nil {
		t.Fatal(err)
	}
}

// TestAnotherKeyIsNotTrusted: the second release is signed with a key that the first one's trust does not name.
func TestAnotherKeyIsNotTrusted(t *testing.T) {
	r := theReleases(t)
	checker, demands := r.checked(t)
	registry := Serve()
	defer registry.Close()
	to := registry.Target()
	if err := Push(t.Context(), r.dirs[1], to); err != nil {
		t.Fatal(err)
	}
	expect(t, checker, to.Repository+":v1.2.3", filepath.Join(demands, imageDemands), "SignatureUntrusted", "does not contain any trusted certificate")
}

func TestReadSourceRefusesChanges(t *testing.T) {
	dir := t.TempDir()
	env := append(os.Environ(), "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com", "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z")
	git := func(args ...string) {
		t.Helper()
		if _, err := output(t.Context(), dir, env, "git", args...); err != nil {
			t.Fatal(err)
		}
	}
	git("init", "-q")
	if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	git("add", "a")
	git("commit", "-qm", "a")
	source, err := ReadSource(t.Context(), dir)
	if err != nil || len(source.Commit) != 40 || !source.Time.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("%+v, %v", source, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSource(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "not committed") {
		t.Error(err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Version: "v0.1.0-rc.1", Repository: "a/b", ChartRepository: "a/c", Builder: "https://example.com", Platforms: []v1.Platform{{OS: "linux"}}}
	if err := good.validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"no version":           func(o *Options) { o.Version = "" },
		"a version without v":  func(o *Options) { o.Version = "0.1.0" },
		"a flag as a version":  func(o *Options) { o.Version = "v0.1.0 -X main.x=y" },
		"no platform":          func(o *Options) { o.Platforms = nil },
		"no repository":        func(o *Options) { o.Repository = "" },
		"no chart's":           func(o *Options) { o.ChartRepository = "chart" },
		"nobody built it":      func(o *Options) { o.Builder = "" },
		"a version on 2 lines": func(o *Options) { o.Version = "v0.1.0\n" },
	} {
		bad := good
		change(&bad)
		if bad.validate() == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestThePluginIsHeldAgainstItsChecksum(t *testing.T) {
	content := pluginTGZ()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }))
	defer server.Close()
	plugin := Plugin{Release: server.URL, Sums: []string{strings.Repeat("0", 64)}}
	if _, err := plugin.fetch(t.Context(), "amd64"); err == nil || !strings.Contains(err.Error(), "not among those given") {
		t.Error(err)
	}
	plugin.Sums = append(plugin.Sums, digest.FromBytes(content).Encoded())
	if found, err := plugin.fetch(t.Context(), "amd64"); err != nil || string(found.program) != testPlugin {
		t.Error(found, err)
	}
	if found, err := (Plugin{}).fetch(t.Context(), "amd64"); found != nil || err != nil {
		t.Error(found, err)
	}
}

func TestALicenceIsTakenWhereAFileOffersAChoice(t *testing.T) {
	known, err := assets.DefaultClassifier()
	if err != nil {
		t.Fatal(err)
	}
	ours := read(t, "..", "LICENSE")
	for name, tt := range map[string]struct{ text, want string }{
		"a text":                        {ours, "Apache-2.0"},
		"a choice that we made":         {"/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */\n" + ours, "BSD-3-Clause"},
		"a choice that nobody made":     {"/* SPDX-License-Identifier: GPL-3.0-only OR Apache-2.0 */\n" + ours, "Apache-2.0"},
		"an expression with more to it": {"SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only AND MIT\n" + ours, "Apache-2.0"},
		"nothing":                       {"Ask us.", ""},
	} {
		path := filepath.Join(t.TempDir(), "LICENSE")
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if found, err := classify(known, []string{path}); err != nil || strings.Join(found, " ") != tt.want {
			t.Errorf("%s: %q, %v", name, found, err)
		}
	}
}
