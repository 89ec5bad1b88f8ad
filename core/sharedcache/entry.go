package sharedcache

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// Entry is an answer for other replicas. One of its two answers is set.
type Entry struct {
	From  time.Time `json:"-"` // when the work began, since that is when the facts were as it says
	Until time.Time `json:"-"` // from when on it does not count

	Decision string               `json:"decision,omitzero"` // id of the decision that it was worked out for; "" where that was not recorded
	Answer   *verification.Answer `json:"answer,omitzero"`   // of a Resolve
	Fact     *verification.Fact   `json:"fact,omitzero"`     // of a Conclude
}

// NewEntry makes an entry of what was worked out since from, if that is for others: definitive, and the same at another time.
func NewEntry(task verification.Task, lookup verification.Lookup, answer *verification.Answer, fact *verification.Fact, from time.Time) (Entry, bool) {
	entry := Entry{From: from.UTC(), Answer: answer, Fact: fact}
	if fact != nil {
		shared := *fact
		shared.Warnings = nil // those are about the tag by which one request named the digest
		entry.Fact = &shared
	}
	fresh := entry.fresh(task, lookup, from)
	if fresh.For <= 0 {
		return Entry{}, false
	}
	entry.Until = bound(fresh, entry.From)
	return entry, entry.Until.After(entry.From)
}

// Counts gives until when an entry counts for a task, and whether it does now. The reader's own bounds hold beside those of the
// entry, since replicas may have different settings for a while.
func (e Entry) Counts(task verification.Task, lookup verification.Lookup, now time.Time) (until time.Time, ok bool) {
	fresh := e.fresh(task, lookup, now)
	if fresh.For <= 0 {
		return until, false
	}
	until = bound(fresh, e.From)
	if e.Until.Before(until) {
		until = e.Until
	}
	return until, now.Before(until)
}

// fresh tells how long a replica keeps an answer itself; zero for one that is not for this lookup, or not for others.
func (e Entry) fresh(task verification.Task, lookup verification.Lookup, now time.Time) verification.Freshness {
	switch {
	case lookup.Kind == verification.Resolve && e.Answer != nil && e.Fact == nil && e.Answer.Descriptor.Digest != "":
		return verification.Fresh(task, lookup, *e.Answer)
	case lookup.Kind == verification.Conclude && e.Fact != nil && e.Answer == nil && e.Fact.Digest == lookup.Subject:
		if fresh := verification.FreshFact(task, *e.Fact, now); !fresh.TimeDependent {
			return fresh
		}
	}
	return verification.Freshness{}
}

// bound is when an answer from a time ends.
func bound(fresh verification.Freshness, from time.Time) time.Time {
	until := from.Add(fresh.For)
	if !fresh.Until.IsZero() && fresh.Until.Before(until) {
		return fresh.Until.UTC()
	}
	return until
}

// Seal seals an entry; false if it has too much text.
func (s Slot) Seal(entry Entry, nonce [NonceSize]byte) ([]byte, bool) {
	text, err := json.Marshal(entry)
	if err != nil { // a fact with a time that JSON does not have
		return nil, false
	}
	return s.SealText(text, entry.From, entry.Until, nonce)
}

// Open gives the entry of a sealed value. Errors are those of OpenText.
func (s Slot) Open(sealed []byte, now time.Time) (Entry, error) {
	text, from, until, err := s.OpenText(sealed, now)
	if err != nil {
		return Entry{}, err
	}
	entry := Entry{}
	if err := json.Unmarshal(text, &entry); err != nil { // a replica with the same keys sealed it
		return Entry{}, fmt.Errorf("%w: %w", ErrOther, err)
	}
	entry.From, entry.Until = from, until
	return entry, nil
}
