// Package ledger chains the lines of a log by hash, signs the chains, and verifies a log. It is pure: the shell gives it records,
// the time and the key, and writes the lines that come back.
//
// A chain is what one sink of one process writes from its start to its end. Each line holds the SHA-256 of the line before it, so
// that a hash of one line stands for all lines up to it. There are three kinds of lines, all canonical JSON (RFC 8785):
//
//	{"after":{…},"chain":"C","replica":"pod","sequence":0,"time":"T"}  starts a chain, and names the last line of the chain before it
//	{"chain":"C","previous":"H","record":{…},"sequence":7}             holds a record, as it is
//	{"chain":"C","checkpoint":"…","previous":"H","sequence":8}         signs all lines before it
//
// The hash of a line is taken over its bytes without the line feed. "dropped" in a line counts the records that were lost before
// it. A checkpoint is a signed note (C2SP signed-note, package golang.org/x/mod/sumdb/note) with an ECDSA P-256 signature as in the
// checkpoints of Rekor: ASN.1, over the SHA-256 of the text, and the key's ID is the beginning of the SHA-256 of its
// SubjectPublicKeyInfo. The text, after which comes an empty line and the signature, is
//
//	kyverno-notation-venafi/records/pod/C      the origin: replica and chain
//	8                                          lines that it signs, from sequence 0 on
//	k1dXBk…=                                   hash of the last of them, base64
//	start 2026-01-02T03:04:05.678Z             of the chain
//	time 2026-01-02T03:05:05.678Z              of the checkpoint, by the replica's clock
//	open                                       or closed: the chain ends here
//
// It is a chain rather than a Merkle tree, as a transparency log has it, because a log of records is read as a whole: nobody asks
// for a proof about one line, and a file that was rotated is verified with nothing but its neighbours.
//
// A [Verifier] finds each byte that was changed in what is signed, and lines that were removed, inserted, swapped or repeated. An end
// that was cut off leaves a chain that is neither closed nor continued by another, which it reports. It cannot find that all of a
// chain is missing, or that a log was exchanged for an earlier copy of itself in which all chains are closed, unless it is told the
// heads that were seen before. Whoever has a key can sign another log for the time of that key; what later keys or heads vouch for
// stays out of reach.
package ledger
