package world

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/adversary/oracle"
)

// Bare makes a world in which there is nothing yet, for tests that say themselves what there is. Its only registry is
// the name with ".example" behind it; the name is "w" and a number.
func Bare(name string, signers *Signers) *World {
	now := time.Now().Truncate(time.Second)
	w := &World{Name: name, Hosts: []string{name + ".example"}, random: rand.New(rand.NewPCG(1, 1)), signers: signers, now: now}
	w.Case = oracle.Case{Registry: oracle.Registry{}, Now: now, Plugin: Agreeing}
	w.pushed, w.lists = map[string][]string{}, map[string]map[string][]map[string]any{}
	w.conduct.api, w.conduct.filters, w.conduct.asked = true, true, map[string]int{}
	return w
}

// Repository is the canonical name of a path at the world's registry.
func (w *World) Repository(path string) string { return w.Hosts[0] + "/" + path }

// PushImage pushes an image that its note tells from others, and tags it.
func (w *World) PushImage(path, tag, note string) Subject {
	empty := Subject{typeEmpty, Digest([]byte("{}")), 2}
	subject := w.push(w.Repository(path), typeManifest, map[string]any{
		"schemaVersion": 2, "mediaType": typeManifest, "config": empty, "layers": []Subject{empty}, "annotations": map[string]string{"note": note},
	})
	w.Tag(path, tag, subject)
	return subject
}

// Tag moves a tag.
func (w *World) Tag(path, tag string, subject Subject) {
	w.conduct.mu.Lock()
	defer w.conduct.mu.Unlock()
	w.repository(w.Repository(path)).Tags[tag] = []string{subject.Digest}
}

// Sign attaches a signature. The zero time is an hour ago.
func (w *World) Sign(path string, subject Subject, e Envelope) {
	if e.Time.IsZero() {
		e.Time = w.now.Add(-time.Hour)
	}
	w.attach(w.Repository(path), subject, e)
	w.list(path)
}

// Attach attaches an envelope as it is.
func (w *World) Attach(path string, subject Subject, mediaType string, envelope []byte) Subject {
	signature := w.attachEnvelope(w.Repository(path), subject, mediaType, envelope)
	w.list(path)
	return signature
}

// Attest attaches an attestation, which is not signed yet.
func (w *World) Attest(path string, subject Subject, artifactType string, payload []byte) Subject {
	repository := w.Repository(path)
	attestation := w.push(repository, typeManifest, map[string]any{
		"schemaVersion": 2, "mediaType": typeManifest, "artifactType": artifactType, "config": w.blob(repository, typeEmpty, []byte("{}")),
		"layers": []Subject{w.blob(repository, "application/json", payload)}, "subject": subject,
	})
	w.list(path)
	return attestation
}

// list lists the referrers of a repository anew.
func (w *World) list(path string) { w.lists[w.Repository(path)] = w.referrersOf(w.Repository(path)) }

// Index is what a fallback tag of a subject may hold: its referrers but one, "" for all.
func (w *World) Index(path, subject, but string) []byte {
	a := &Answer{Header: http.Header{}, Request: &http.Request{Method: http.MethodGet}}
	entries := w.lists[w.Repository(path)][subject]
	a.list(slices.DeleteFunc(slices.Clone(entries), func(e map[string]any) bool { return e["digest"] == but }), true)
	return a.Body
}

// Pages has lists come in pages of a size.
func (w *World) Pages(size int) { w.conduct.pageSize = size }

// Spoil changes the answers of a kind: resolve, manifest, blob or list, "" for all.
func (w *World) Spoil(kind string, spoil func(*Answer)) {
	w.conduct.faults = append(w.conduct.faults, &fault{name: "of the test", kind: kind, nth: -1, spoil: spoil})
}

// Swap has a tag be another image at every look but the first.
func (w *World) Swap(path, tag string, to Subject) {
	var looks atomic.Int64
	w.Spoil("resolve", func(a *Answer) {
		if _, _, asked := splitPath(a.Request.URL.Path); asked == tag && looks.Add(1) > 1 {
			a.manifest(to.Digest)
		}
	})
	tags := w.repository(w.Repository(path)).Tags
	tags[tag] = slices.Concat(tags[tag], []string{to.Digest})
}

// Trust sets one trust policy, p, of one statement for every repository, which trusts acme's release.
func (w *World) Trust(level string, scopes ...string) {
	statement := oracle.Statement{
		Name: "all", Scopes: scopes, Level: level, Stores: []string{"ca:" + w.Name + "-acme"},
		Identities: []string{"x509.subject: C=US, ST=WA, O=Acme, CN=Release"},
	}
	if level == "skip" {
		statement.Stores, statement.Identities = nil, nil
	}
	if len(w.Case.Trust.Policies) == 0 {
		w.Case.Trust.Policies = []oracle.Policy{{Name: w.Name + "-p", Version: "1.0"}}
		w.store("ca", "acme", w.signers.Bundles["acme"])
	}
	policy := &w.Case.Trust.Policies[0]
	statement.Name += string(rune('0' + len(policy.Statements)))
	policy.Statements = append(policy.Statements, statement)
}
