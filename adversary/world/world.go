package world

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/adversary/oracle"
)

// World is one world.
type World struct {
	Seed     uint64
	Name     string // in hosts, repositories and trust policies, so that worlds can stand beside each other
	Hosts    []string
	Case     oracle.Case
	Requests []Request
	Tells    []string // what was drawn, for people

	random  *rand.Rand
	calm    bool // most is as it should be, so that what is not decides
	signers *Signers
	now     time.Time
	images  []image
	pushed  map[string][]string                    // digests by repository, in the order of their push
	lists   map[string]map[string][]map[string]any // referrers by repository and subject
	conduct conduct
	err     error
}

// image is one that requests may ask for.
type image struct {
	repository string // canonical
	tag        string
	subject    Subject
}

// New makes the world of a seed.
func New(seed uint64, signers *Signers) (*World, error) {
	return From(seed, rand.NewPCG(seed, 13), signers)
}

// From makes the world that a source draws, under the name of a seed.
func From(seed uint64, source rand.Source, signers *Signers) (*World, error) {
	w := &World{
		Seed: seed, Name: fmt.Sprintf("w%d", seed), random: rand.New(source), signers: signers,
		now: time.Now().Truncate(time.Second),
	}
	w.Case = oracle.Case{Registry: oracle.Registry{}, Now: w.now, Plugin: Agreeing}
	w.pushed, w.lists = map[string][]string{}, map[string]map[string][]map[string]any{}
	w.calm = w.chance(40)
	w.drawHosts()
	w.drawImages()
	w.drawLists()
	w.drawTrust()
	w.drawRequests()
	w.drawConduct()
	return w, w.err
}

// Honest tells that the registry tells the truth.
func (w *World) Honest() bool { return len(w.conduct.faults) == 0 }

// String tells what was drawn.
func (w *World) String() string {
	return fmt.Sprintf("seed %d:\n    %s", w.Seed, strings.Join(w.Tells, "\n    "))
}

func (w *World) tell(format string, args ...any) {
	w.Tells = append(w.Tells, fmt.Sprintf(format, args...))
}

// chance is true n times of a hundred.
func (w *World) chance(n int) bool { return w.random.IntN(100) < n }

// mostly is a chance that is better in a calm world.
func (w *World) mostly(n int) int {
	if w.calm {
		return (n + 100) / 2
	}
	return n
}

// pick draws one of several.
func pick[T any](w *World, from ...T) T { return from[w.random.IntN(len(from))] }

func (w *World) drawHosts() {
	w.Hosts = []string{w.Name + ".example"}
	if w.chance(20) {
		w.Hosts = append(w.Hosts, w.Name+".example:5000")
	}
	if w.chance(15) {
		w.Hosts = append(w.Hosts, "docker.io")
	}
}

// Digest is the digest of a content.
func Digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (w *World) repository(name string) *oracle.Repository {
	found, ok := w.Case.Registry[name]
	if !ok {
		found = &oracle.Repository{Tags: map[string][]string{}, Manifests: map[string]oracle.Manifest{}, Blobs: map[string][]byte{}}
		w.Case.Registry[name] = found
	}
	return found
}

const (
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeDocker   = "application/vnd.docker.distribution.manifest.v2+json"
	typeEmpty    = "application/vnd.oci.empty.v1+json"
	typeNotation = "application/vnd.cncf.notary.signature"
	typeSBOM     = "application/vnd.cyclonedx+json"
	typeScan     = "application/sarif+json"
)

// push puts a manifest into a repository.
func (w *World) push(repository, mediaType string, manifest any) Subject {
	content, err := json.Marshal(manifest)
	if err != nil {
		w.err = err
	}
	subject := Subject{mediaType, Digest(content), int64(len(content))}
	w.repository(repository).Manifests[subject.Digest] = oracle.Manifest{MediaType: mediaType, Content: content}
	w.pushed[repository] = append(w.pushed[repository], subject.Digest)
	return subject
}

func (w *World) blob(repository, mediaType string, content []byte) Subject {
	subject := Subject{mediaType, Digest(content), int64(len(content))}
	w.repository(repository).Blobs[subject.Digest] = content
	return subject
}

// drawImages fills some repositories.
func (w *World) drawImages() {
	for _, host := range w.Hosts {
		path := pick(w, w.Name+"/app", w.Name+"/app", w.Name+"/team/app", "acme/"+w.Name)
		if host == "docker.io" {
			path = pick(w, w.Name+"/app", "library/"+w.Name)
		}
		name := host + "/" + path
		for i := range 1 + w.random.IntN(3) {
			w.drawImage(name, []string{"v1", "latest", "V2.0_x"}[i])
		}
	}
	w.moveTag()
}

func (w *World) drawImage(repository, tag string) {
	nonce := fmt.Sprintf("%s %s %d", repository, tag, w.random.Uint64())
	mediaType := pick(w, typeManifest, typeManifest, typeManifest, typeIndex, typeDocker)
	manifest := map[string]any{"schemaVersion": 2, "mediaType": mediaType, "annotations": map[string]string{"nonce": nonce}}
	if mediaType == typeIndex {
		manifest["manifests"] = []any{}
	} else {
		empty := Subject{typeEmpty, Digest([]byte("{}")), 2}
		manifest["config"], manifest["layers"] = empty, []any{empty}
	}
	subject := w.push(repository, mediaType, manifest)
	w.repository(repository).Tags[tag] = []string{subject.Digest}
	w.images = append(w.images, image{repository, tag, subject})
	w.drawSignatures(repository, subject, repository+":"+tag, w.mostly(70))
	w.drawAttestations(repository, subject, repository+":"+tag)
}

// moveTag lets a tag of a repository be another's for a while.
func (w *World) moveTag() {
	first := w.images[0]
	for _, other := range w.images[1:] {
		if other.repository == first.repository && w.chance(15) {
			tags := w.repository(first.repository).Tags
			tags[first.tag] = append(slices.Clone(tags[other.tag][:1]), tags[first.tag]...)
			w.tell("%s:%s was %s before", first.repository, first.tag, other.tag)
			return
		}
	}
}

// Platform is the host of the only signing platform from which a plugin may fetch certificates.
const Platform = "tpp.example"

// Agreeing is the true answer of a plugin that trusts everyone, as the service must ask it: the one that is installed,
// in a version that the signature may demand, and about certificates of the platform only.
func Agreeing(_ *x509.Certificate, attributes map[string]string) oracle.Opinion {
	x5u := attributes["com.venafi.notation.plugin.x5u"]
	switch {
	case attributes["io.cncf.notary.verificationPlugin"] != "venafi-csp", attributes["io.cncf.notary.verificationPluginMinVersion"] != "0.2.0":
		return oracle.No
	case strings.HasPrefix(x5u, "https://"+Platform+"/"):
		return oracle.Yes
	case x5u == "":
		return oracle.Either
	}
	return oracle.No
}
