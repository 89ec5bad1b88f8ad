package verification_test

import (
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// TestKeysAreOfADigest gives the key of facts for what a tag was resolved to.
func TestKeysAreOfADigest(t *testing.T) {
	found := verification.Answer{Descriptor: descriptor("image")}
	doubtful := verification.Answer{Descriptor: descriptor("image"), Warnings: []string{"it was resolved an hour ago"}}
	failed := verification.Answer{Failure: &verification.Failure{Finding: reason.Finding{Code: reason.ImageNotFound}}}
	half := verification.Answer{Descriptor: found.Descriptor, Failure: failed.Failure}
	byTag, byDigest := repository+":v1", repository+"@"+digestOf("image")
	for sentence, test := range map[string]struct {
		reference string
		skip      bool
		types     []string
		resolved  verification.Answer
		resolves  bool
		subject   string // "" for no key
	}{
		"a tag that was resolved":               {byTag, false, nil, found, true, digestOf("image")},
		"a tag that was resolved with doubts":   {byTag, false, nil, doubtful, true, digestOf("image")},
		"a tag that does not exist":             {byTag, false, nil, failed, true, ""},
		"a tag that nothing was found out of":   {byTag, false, nil, verification.Answer{}, true, ""},
		"a tag that failed, with a digest":      {byTag, false, nil, half, true, ""},
		"a digest":                              {byDigest, false, nil, verification.Answer{}, false, digestOf("image")},
		"a tag that need not be verified":       {byTag, true, nil, found, false, ""},
		"a digest that need not be verified":    {byDigest, true, nil, verification.Answer{}, false, ""},
		"one that only needs attestations":      {byTag, true, []string{typeSBOM}, found, true, digestOf("image")},
		"by digest, one that needs only those":  {byDigest, true, []string{typeSBOM}, verification.Answer{}, false, digestOf("image")},
		"one that needs those, and is not here": {byTag, true, []string{typeSBOM}, failed, true, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			task := taskFor(t, test.reference, test.types...)
			if test.skip {
				task.Statement.Level = trust.LevelSkip
			}
			lookup, resolves := verification.Resolution(task)
			if resolves != test.resolves || resolves && lookup != (verification.Lookup{Kind: verification.Resolve, Repository: repository, Subject: "v1"}) {
				t.Errorf("to resolve: %+v, %t", lookup, resolves)
			}
			key, ok := verification.Key(task, test.resolved)
			if ok != (test.subject != "") || key.Subject != test.subject || ok && (key.Kind != verification.Conclude || key.Repository != repository) {
				t.Errorf("the key is %+v, %t", key, ok)
			}
		})
	}
	plain, demanding := taskFor(t, byTag), taskFor(t, byTag, typeSBOM)
	first, _ := verification.Key(plain, found)
	if again, _ := verification.Key(taskFor(t, byDigest), verification.Answer{}); again != first {
		t.Errorf("by digest the key is %+v; by tag %+v", again, first)
	}
	if other, _ := verification.Key(demanding, found); other == first {
		t.Errorf("with and without attestations the key is %+v", first)
	}
}
