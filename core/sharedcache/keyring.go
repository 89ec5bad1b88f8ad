package sharedcache

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"

	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// Version is that of the format: of names, of seals and of what is sealed. Another version has other names and keys.
const Version = 1

// MinSecret is the least length of a secret, characters; that many random letters and digits cannot be guessed.
const MinSecret = 26

// maxSecrets is how many secrets are in use at once: while one replaces another.
const maxSecrets = 2

// Keyring has the keys that are in use. The zero value has none, and nothing is shared.
type Keyring struct{ keys []key } // the first seals, and all open

// key is derived from a secret.
type key struct{ names, seals []byte }

// NewKeyring derives the keys from one or two secrets, of which the first seals. surroundings tells all that answers depend on beside
// their lookups.
func NewKeyring(secrets []string, surroundings string) (Keyring, error) {
	if len(secrets) == 0 || len(secrets) > maxSecrets {
		return Keyring{}, fmt.Errorf("there are %d secrets for the shared cache; there must be one, or two while one replaces the other", len(secrets))
	}
	var ring Keyring
	for _, secret := range secrets {
		if len(secret) < MinSecret {
			return Keyring{}, fmt.Errorf("a secret for the shared cache has %d characters; at least %d random ones are needed", len(secret), MinSecret)
		}
		var k key
		var err, err2 error
		k.names, err = derived(secret, "names", surroundings)
		k.seals, err2 = derived(secret, "seals", surroundings)
		if err := errors.Join(err, err2); err != nil {
			return Keyring{}, err
		}
		ring.keys = append(ring.keys, k)
	}
	return ring, nil
}

// derived is a key for one purpose.
func derived(secret, purpose, surroundings string) ([]byte, error) {
	info := fmt.Sprintf("kyverno-notation-venafi shared cache %d %s %d:%s", Version, purpose, len(surroundings), surroundings)
	return hkdf.Key(sha256.New, []byte(secret), nil, info, sha256.Size)
}

// Empty tells that there are no keys.
func (r Keyring) Empty() bool { return len(r.keys) == 0 }

// Sharable tells whether answers of a kind are for other replicas.
func Sharable(kind verification.Kind) bool {
	return kind == verification.Resolve || kind == verification.Conclude
}

// Slots are the places of a lookup's answer, one for each key: the first is written, and all are read. There is none for a kind that
// is not shared.
func (r Keyring) Slots(lookup verification.Lookup) []Slot {
	if !Sharable(lookup.Kind) {
		return nil
	}
	return r.slots("entry", encoded(nil, reflect.ValueOf(lookup)))
}

// Notes are the places of a short text under a topic, like Slots.
func (r Keyring) Notes(topic string) []Slot { return r.slots("note", []byte(topic)) }

func (r Keyring) slots(purpose string, subject []byte) []Slot {
	slots := make([]Slot, len(r.keys))
	for i, k := range r.keys {
		slots[i] = k.slot("knv:{"+base64.RawURLEncoding.EncodeToString(mac(k.names, purpose, subject))+"}", purpose)
	}
	return slots
}

// mac is a keyed hash of a subject of some purpose.
func mac(key []byte, purpose string, subject []byte) []byte {
	hash := hmac.New(sha256.New, key)
	fmt.Fprintf(hash, "%d:%s", len(purpose), purpose)
	hash.Write(subject)
	return hash.Sum(nil)
}

// encoded appends all fields of a value, each with its length, so that only equal values have equal encodings. A field that is added
// later is part of it without further ado.
func encoded(to []byte, value reflect.Value) []byte {
	switch value.Kind() {
	case reflect.Struct:
		for i := range value.NumField() {
			to = encoded(to, value.Field(i))
		}
		return to
	case reflect.String:
		to = binary.AppendUvarint(to, uint64(value.Len()))
		return append(to, value.String()...)
	case reflect.Int, reflect.Int64:
		return binary.AppendVarint(to, value.Int())
	case reflect.Bool:
		return fmt.Append(to, value.Bool())
	}
	panic(fmt.Sprintf("a lookup has a field of kind %s, which has no encoding", value.Kind()))
}
