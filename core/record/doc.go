// Package record has the record of a decision: all that the core was given, and the verdict that it gave.
//
// A [Record] is one line of canonical JSON (RFC 8785), as [Encode] writes it; decision.schema.json describes it. Since the core
// is pure, [Replay] decides again on what a record holds and must come to the same verdict, byte for byte:
//
//	r, err := record.Decode(line)
//	if err == nil {
//		err = record.Replay(r)
//	}
//
// Evidence keeps the fields of core/verification under the names in their tags, so that what is added there is recorded too.
// Texts in it may be those of strangers. [Why] tells a record for people.
package record
