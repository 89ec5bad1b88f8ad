package world

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/adversary/oracle"
)

// drawSignatures attaches signatures to an artifact; good is the chance, of a hundred, that each is a plain good one.
func (w *World) drawSignatures(repository string, subject Subject, of string, good int) {
	n := pick(w, 0, 1, 1, 1, 2, 3)
	if w.calm {
		n = max(n, 1)
	}
	for range n {
		kind, envelope := "plain", w.plain("acme-release")
		if !w.chance(good) {
			kind, envelope = w.drawSignature(repository)
		}
		w.tell("%s has a signature: %s", of, kind)
		w.attach(repository, subject, envelope)
	}
	if w.chance(10) {
		w.attachJunk(repository, subject)
		w.tell("%s has a signature: junk", of)
	}
}

func (w *World) plain(signer string) Envelope {
	return Envelope{Format: pick(w, JWS, JWS, COSE), Signer: w.signers.Get(signer), Time: w.now.Add(-time.Duration(1+w.random.IntN(1000)) * time.Hour)}
}

// drawSignature draws a signature of which something is odd.
func (w *World) drawSignature(repository string) (string, Envelope) {
	e := w.plain("acme-release")
	trick := w.random.IntN(18)
	switch trick {
	case 0, 1, 2, 3, 4, 5:
		name := pick(w, w.signers.names...)
		e.Signer = w.signers.Get(name)
		if name == "acme-huge" {
			e.Algorithm = "PS512"
		}
		return "by " + name, e
	case 6:
		e.Expiry = w.now.Add(-time.Minute)
		return "expired", e
	case 7:
		e.Expiry = w.now.Add(time.Hour)
		return "expires in an hour", e
	case 8:
		e.ByStranger = w.signers.Get("mallory-release")
		return "made with another key", e
	case 9:
		return w.wrongChain(e)
	case 10:
		return w.wrongPayload(e, repository)
	case 11:
		e.Attributes, e.Critical = map[string]string{"com.example.unknown": "x"}, []string{"com.example.unknown"}
		return "with an unknown critical attribute", e
	case 12:
		e.Attributes = map[string]string{"com.example.unknown": "x"}
		return "with an unknown attribute", e
	case 13:
		return w.withPlugin(e)
	case 14:
		e.Scheme = pick(w, schemeAuthority, "notary.x509.other")
		return "by the scheme " + e.Scheme, e
	case 15:
		e.Algorithm = pick(w, "none", "HS256", "ES384", "PS256", "RS256")
		return "by the algorithm " + e.Algorithm, e
	case 16:
		e.ContentType = "application/json"
		return "of another content type", e
	}
	return w.spoilt(e)
}

func (w *World) wrongChain(e Envelope) (string, Envelope) {
	der := func(names ...string) (chain [][]byte) {
		for _, name := range names {
			chain = append(chain, w.signers.Get(name).Chain[0].Raw)
		}
		return chain
	}
	e.Signer = w.signers.Get("mallory-release")
	switch w.random.IntN(6) {
	case 0:
		e.Chain = der("mallory-release", "acme")
		return "by mallory, with acme's root for a root", e
	case 1:
		e.Chain = der("mallory-release", "mallory", "acme")
		return "by mallory, with acme's root behind the root", e
	case 2:
		e.Chain = der("mallory-release", "acme-release", "acme")
		return "by mallory, with a good chain behind the leaf", e
	case 3:
		e.Chain = der("acme-release", "acme")
		return "by mallory, with a good chain", e
	case 4:
		e.Signer, e.Chain = w.signers.Get("acme-release"), der("acme-release")
		return "without the root in the chain", e
	}
	e.Signer, e.Chain = w.signers.Get("acme-release"), der("acme", "acme-release")
	return "with the chain upside down", e
}

// wrongPayload signs for something else, or for this in other words.
func (w *World) wrongPayload(e Envelope, repository string) (string, Envelope) {
	other := Subject{typeManifest, Digest([]byte("another image")), 512}
	for _, i := range w.images {
		if i.repository != repository || w.chance(50) {
			other = i.subject
		}
	}
	payload := func(value any) []byte {
		text, err := json.Marshal(value)
		if err != nil {
			w.err = err
		}
		return text
	}
	switch w.random.IntN(4) {
	case 0:
		e.Payload = payload(map[string]any{"targetArtifact": other})
		return "for another image", e
	case 1:
		e.Payload = []byte(`{"targetArtifact":{}}`)
		return "for nothing", e
	case 2:
		e.Payload = payload([]any{other})
		return "for a list", e
	}
	e.Payload = payload(map[string]any{"targetArtifact": Subject{other.MediaType, other.Digest, 1}})
	return "for another image of another size", e
}

func (w *World) withPlugin(e Envelope) (string, Envelope) {
	e.Signer = w.signers.Get(pick(w, "acme-release", "acme-release", "acme-build", "mallory-release", "acme-other"))
	name := pick(w, "venafi-csp", "venafi-csp", "venafi-csp", "absent", "../venafi-csp")
	e.Attributes = map[string]string{
		"io.cncf.notary.verificationPlugin": name, "io.cncf.notary.verificationPluginMinVersion": pick(w, "0.2.0", "9.0.0", "no version"),
	}
	e.Critical = []string{"io.cncf.notary.verificationPlugin", "io.cncf.notary.verificationPluginMinVersion"}
	if x5u := pick(w, "https://tpp.example/vedsdk/pks/lookup?id=1", "https://mallory.example/release.pem", "http://169.254.169.254/", "file:///etc/passwd", ""); x5u != "" {
		e.Attributes["com.venafi.notation.plugin.x5u"] = x5u
		e.Critical = append(e.Critical, "com.venafi.notation.plugin.x5u")
	}
	return fmt.Sprintf("by %s, with the plugin %s and x5u %q", e.Signer.Name, name, e.Attributes["com.venafi.notation.plugin.x5u"]), e
}

// spoilt changes an envelope after it was signed.
func (w *World) spoilt(e Envelope) (string, Envelope) {
	at := w.random.Float64()
	if w.chance(50) {
		e.Spoil = func(text []byte) []byte {
			text = bytes.Clone(text)
			text[int(at*float64(len(text)))] ^= 1
			return text
		}
		return "with a bit turned over", e
	}
	e.Spoil = func(text []byte) []byte { return text[:int(at*float64(len(text)))] }
	return "cut short", e
}

// attach signs and pushes the signature manifest.
func (w *World) attach(repository string, subject Subject, e Envelope) {
	text, err := e.Make(subject)
	if err != nil {
		w.err = err
		return
	}
	w.attachEnvelope(repository, subject, or(e.Format, JWS), text)
}

func (w *World) attachEnvelope(repository string, subject Subject, mediaType string, text []byte) Subject {
	layer := w.blob(repository, mediaType, text)
	manifest := map[string]any{"schemaVersion": 2, "mediaType": typeManifest, "layers": []Subject{layer}, "subject": subject}
	manifest["config"] = w.blob(repository, typeNotation, []byte("{}"))
	if w.chance(80) { // else by its config alone, as version 1.0 has it
		manifest["artifactType"] = typeNotation
	}
	return w.push(repository, typeManifest, manifest)
}

// attachJunk pushes a referrer that claims to be a signature and is none.
func (w *World) attachJunk(repository string, subject Subject) {
	manifest := map[string]any{"schemaVersion": 2, "mediaType": typeManifest, "artifactType": typeNotation, "config": Subject{typeNotation, Digest([]byte("{}")), 2}, "subject": subject}
	junk := w.blob(repository, pick(w, JWS, COSE, "text/plain"), []byte(pick(w, "", "{}", "null", "[]", "junk", `{"payload":"e30"}`)))
	switch w.random.IntN(4) {
	case 0:
		manifest["layers"] = []Subject{junk}
	case 1:
		manifest["layers"] = []Subject{junk, junk}
	case 2:
		manifest["layers"] = []Subject{}
	case 3:
		manifest["layers"] = []Subject{{JWS, Digest([]byte("is not there")), 12}}
	}
	w.push(repository, typeManifest, manifest)
}

// drawAttestations attaches SBOMs and scan reports.
func (w *World) drawAttestations(repository string, image Subject, of string) {
	if w.chance(40) && !w.calm {
		return
	}
	for range 1 + w.random.IntN(3) {
		artifactType, subject := pick(w, typeSBOM, typeSBOM, typeScan), image
		if w.calm {
			artifactType = typeSBOM
		}
		if w.chance(10) && !w.calm {
			subject = w.images[w.random.IntN(len(w.images))].subject
		}
		payload := w.drawPayload()
		attestation := w.attest(repository, subject, artifactType, payload)
		told := fmt.Sprintf("attestation %.20s of %s, %s", attestation.Digest, of, artifactType)
		w.tell("%s: %.200s", told, payload)
		w.drawSignatures(repository, attestation, told, w.mostly(80))
	}
}

func (w *World) attest(repository string, subject Subject, artifactType string, payload []byte) Subject {
	layers := []Subject{w.blob(repository, "application/json", payload)}
	if w.chance(5) {
		layers = append(layers, layers[0])
	}
	if w.chance(3) {
		delete(w.repository(repository).Blobs, layers[0].Digest)
	}
	manifest := map[string]any{
		"schemaVersion": 2, "mediaType": typeManifest, "layers": layers, "subject": subject,
		"annotations": map[string]string{"nonce": fmt.Sprint(w.random.Uint64())},
	}
	if w.chance(20) {
		manifest["config"] = w.blob(repository, artifactType, []byte("{}"))
	} else {
		manifest["artifactType"], manifest["config"] = artifactType, w.blob(repository, typeEmpty, []byte("{}"))
	}
	return w.push(repository, typeManifest, manifest)
}

// drawPayload writes a document with licences, versions and a level.
func (w *World) drawPayload() []byte {
	if w.calm && w.chance(70) {
		return fmt.Appendf(nil, `{"components":[{"licence":%q}],"level":%q,"count":%d,"versions":[2]}`, pick(w, "MIT", "GPL-3.0"), pick(w, "low", "low", "high"), w.random.IntN(3))
	}
	if w.chance(5) {
		return []byte(pick(w, "", "null", "[]", "{", `"text"`, `{"components":null}`))
	}
	var components []any
	for range w.random.IntN(3) {
		components = append(components, map[string]any{"name": pick(w, "a", "b"), "licence": pick(w, "MIT", "MIT", "GPL-3.0")})
	}
	text, err := json.Marshal(map[string]any{
		"components": components, "level": pick(w, "high", "low", "low"), "count": pick(w, 0, 1, 1234567),
		"versions": pick(w, []int{1, 2}, []int{2}, []int{1234567}, []int{}),
	})
	if err != nil {
		w.err = err
	}
	return text
}

// drawLists lists what refers to each subject, in an order that the seed determines: that of a registry is any.
func (w *World) drawLists() {
	for _, i := range w.images {
		if w.lists[i.repository] != nil {
			continue
		}
		lists := w.referrersOf(i.repository)
		for _, digest := range w.pushed[i.repository] {
			list := lists[digest]
			w.random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		}
		w.lists[i.repository] = lists
	}
}

// referrersOf lists the referrers of a repository's manifests by their subject, in the order of their push.
func (w *World) referrersOf(name string) map[string][]map[string]any {
	lists, repository := map[string][]map[string]any{}, w.repository(name)
	for _, digest := range w.pushed[name] {
		var read struct {
			Subject *Subject `json:"subject"`
		}
		if json.Unmarshal(repository.Manifests[digest].Content, &read) == nil && read.Subject != nil {
			lists[read.Subject.Digest] = append(lists[read.Subject.Digest], entryOf(repository, digest))
		}
	}
	return lists
}

func entryOf(repository *oracle.Repository, digest string) map[string]any {
	manifest := repository.Manifests[digest]
	var read struct {
		ArtifactType string  `json:"artifactType"`
		Config       Subject `json:"config"`
	}
	_ = json.Unmarshal(manifest.Content, &read) // it was read before
	return map[string]any{
		"mediaType": manifest.MediaType, "digest": digest, "size": len(manifest.Content), "artifactType": or(read.ArtifactType, read.Config.MediaType),
	}
}
