package reason

// Code is the machine-readable reason of a result: stable, one word, safe to branch on.
type Code string

// The codes of an image's result. [Codes] has their meaning and remedy.
const (
	Verified    Code = "Verified"
	Skipped     Code = "Skipped"
	NotSelected Code = "NotSelected"

	TrustPolicyNotFound   Code = "TrustPolicyNotFound"
	TrustPolicyInvalid    Code = "TrustPolicyInvalid"
	TrustStoreUnavailable Code = "TrustStoreUnavailable"
	ScopeNotCovered       Code = "ScopeNotCovered"
	NotPinned             Code = "NotPinned"

	ImageNotFound        Code = "ImageNotFound"
	NoSignature          Code = "NoSignature"
	SignatureInvalid     Code = "SignatureInvalid"
	SignatureMismatch    Code = "SignatureMismatch"
	SignatureUntrusted   Code = "SignatureUntrusted"
	SignatureExpired     Code = "SignatureExpired"
	CertificateExpired   Code = "CertificateExpired"
	CertificateRevoked   Code = "CertificateRevoked"
	RevocationUnknown    Code = "RevocationUnknown"
	TimestampInvalid     Code = "TimestampInvalid"
	TooManySignatures    Code = "TooManySignatures"
	PluginMissing        Code = "PluginMissing"
	PluginIncapable      Code = "PluginIncapable"
	PluginRefused        Code = "PluginRefused"
	AttestationMissing   Code = "AttestationMissing"
	AttestationUntrusted Code = "AttestationUntrusted"
	AttestationInvalid   Code = "AttestationInvalid"
	ConditionUnmet       Code = "ConditionUnmet"
	ConditionInvalid     Code = "ConditionInvalid"
	TooManyReferrers     Code = "TooManyReferrers"
	PlatformMissing      Code = "PlatformMissing"
	TooManyPlatforms     Code = "TooManyPlatforms"
	IndexInvalid         Code = "IndexInvalid"
	RegistryUnavailable  Code = "RegistryUnavailable"
	RegistryUnauthorized Code = "RegistryUnauthorized"
	RegistryInvalid      Code = "RegistryInvalid"
	PluginFailed         Code = "PluginFailed"
	PluginTimeout        Code = "PluginTimeout"
	Timeout              Code = "Timeout"
	Overloaded           Code = "Overloaded"
	NotGathered          Code = "NotGathered"
)

// The codes of a request that was refused before any image was looked at; see [RequestError].
const (
	RequestInvalid  Code = "RequestInvalid"
	RequestTooLarge Code = "RequestTooLarge"
)

// Audits alone give these codes, so [Codes] leaves them out.
const (
	NoTrustPolicy Code = "NoTrustPolicy" // no trust policy applies to the namespace
	DemandUnknown Code = "DemandUnknown" // it is not known which does, or what it demands
)

// Class says what a code means for the caller, and so decides the HTTP status.
type Class int

// The classes, from harmless to worst. The zero value denies.
const (
	Denied   Class = iota // the facts are complete, and the image does not satisfy the policy
	Admitted              // the image may run
	Busy                  // the service has too much to do, and has not looked
	Failed                // a registry or plugin failed, so facts are missing
	TimedOut              // time ran out, so facts are missing
	Rejected              // the request itself is invalid
)

// CodeInfo documents a code for people: README and tests are checked against it.
type CodeInfo struct {
	Code    Code
	Meaning string
	Remedy  string
}

// Codes lists every code with what it means and what to do.
func Codes() []CodeInfo {
	return []CodeInfo{
		{Verified, "A signature satisfies the trust policy, and so do the attestations.", "Nothing to do."},
		{Skipped, "The trust policy statement's level is `skip`.", "Raise the level to have the image verified."},
		{NotSelected, "No pattern of `imageReferences` matches the image.", "Widen `imageReferences` to have it verified."},
		{TrustPolicyNotFound, "No TrustPolicy has the requested name.", "Create it, or correct `trustPolicy` in the policy; the message lists the names that exist."},
		{TrustPolicyInvalid, "The TrustPolicy cannot be used.", "Correct the resource; the message says what is wrong with it."},
		{TrustStoreUnavailable, "A TrustStore that the statement names is missing or cannot be used.", "Create or correct the TrustStore."},
		{ScopeNotCovered, "No statement of the TrustPolicy covers the image's repository.", "Add the repository, or `*`, to a statement's `registryScopes`."},
		{NotPinned, "The image is not named by digest, and the request says `requireDigest`.", "Name the image by digest, or have the policy that pins images run before this one."},
		{ImageNotFound, "The registry has no such image.", "Check the name, the tag, and that the push went through."},
		{NoSignature, "The image carries no Notation signature.", "Sign the image: `notation sign IMAGE@DIGEST`."},
		{SignatureInvalid, "The envelope is malformed, over a bound, or was changed after signing.", "Sign the image anew."},
		{SignatureMismatch, "The signature was made for another image.", "Sign this image."},
		{SignatureUntrusted, "The signer is not one whom the trust policy trusts.", "Sign with a trusted key, or extend the TrustStore or `trustedIdentities`."},
		{SignatureExpired, "The signature's own expiry has passed.", "Sign the image anew."},
		{CertificateExpired, "A certificate of the signer is not valid now, and no trusted timestamp covers the signature.", "Sign anew with a valid certificate, or sign with a timestamp and add a `tsa` store."},
		{CertificateRevoked, "A certificate of the signer is revoked.", "Sign anew with another certificate."},
		{RevocationUnknown, "It could not be found out whether the signer's certificate is revoked.", "Check that the OCSP and CRL addresses in the certificate can be reached."},
		{TimestampInvalid, "The signature's timestamp is missing, or does not verify.", "Sign with a timestamp of a trusted authority."},
		{TooManySignatures, "The limit of signatures was reached before a good one was found.", "Remove stale signatures, or raise `--maxSignatureAttempts`."},
		{PluginMissing, "The signature demands a verification plugin that is not installed.", "Install the plugin in `--pluginDir` as `<name>/notation-<name>`."},
		{PluginIncapable, "The installed plugin does not verify signatures, or is too old.", "Install one that does, such as venafi-csp 0.3.3, or name a version that verifies without declaring so in `--pluginVerifies`."},
		{PluginRefused, "The verification plugin does not accept the signature, or may not fetch what the signature names.", "Read the reason in the message; for an address (x5u), set `tpp_url` in the plugin's configuration, or `--pluginX5UHosts`."},
		{AttestationMissing, "The image has no attestation of the type that the policy asks for, or one that is listed and signed is gone from the registry.", "Attach and sign one: `oras attach`, `notation sign`."},
		{AttestationUntrusted, "Attestations of the type exist, but none is signed as the trust policy demands.", "Sign the attestation with a trusted key."},
		{AttestationInvalid, "The attestation's payload cannot be used.", "Attach one JSON document as its only layer, within the size bound."},
		{ConditionUnmet, "The attestation's content does not meet a condition.", "Read key, value found and value wanted in the message."},
		{ConditionInvalid, "A condition cannot be evaluated on the payload.", "Correct the expression, or the path that the payload lacks."},
		{TooManyReferrers, "The image has more referrers than are looked at.", "Remove stale referrers, or raise `--maxReferrers`."},
		{PlatformMissing, "The image's index has no manifest for a platform that must be signed.", "Push one for that platform, or choose others in `platforms`."},
		{TooManyPlatforms, "The image's index has more manifests that must be signed than are verified.", "Push an index of fewer, choose in `platforms` those that run, or raise `--maxPlatforms`."},
		{IndexInvalid, "The image's index cannot be verified by platform: it cannot be read, or lists what is no image manifest, such as another index.", "Push an index that lists image manifests."},
		{RegistryUnavailable, "The registry cannot be reached or answers with an error.", "Try again; check the registry and the network."},
		{RegistryUnauthorized, "The registry refuses the service's credentials, or has none from it.", "Check the credentials, and the image's name."},
		{RegistryInvalid, "The registry's answer contradicts itself or exceeds a bound.", "Check the registry, and proxies on the way to it."},
		{PluginFailed, "The plugin's process failed or answered nonsense.", "Read the message; run the plugin by hand."},
		{PluginTimeout, "The plugin's process did not answer in time.", "Check what the plugin waits for, often its own server."},
		{Timeout, "Time ran out.", "Try again; check how far the registry is, or raise `--requestTimeout`."},
		{Overloaded, "The service has more to do than it can in time.", "Try again; run more replicas, or raise `--maxVerifications` and `--maxQueued`."},
		{NotGathered, "The facts about the image were not gathered.", "Try again; report it if it lasts."},
		{RequestInvalid, "The request is not understood.", "Correct the field that the message names."},
		{RequestTooLarge, "The request's body is over its bound.", "Send less, or send `images` instead of `object`."},
	}
}

// Class gives the class of a code; an unknown code denies.
func (c Code) Class() Class {
	switch c {
	case Verified, Skipped, NotSelected:
		return Admitted
	case RegistryUnavailable, RegistryUnauthorized, RegistryInvalid, PluginFailed, NotGathered, NoTrustPolicy, DemandUnknown:
		return Failed
	case Overloaded:
		return Busy
	case PluginTimeout, Timeout:
		return TimedOut
	case RequestInvalid, RequestTooLarge:
		return Rejected
	}
	return Denied
}

// Definitive tells whether the same finding would be made again a moment later: it denies, and not because a service could
// not be reached.
func (c Code) Definitive() bool { return c.Class() == Denied && c != RevocationUnknown }

// LeavesOpen tells whether a signature could not be verified for a reason that says nothing against its signer: the fault is
// the operator's or another service's. Codes of plugins are among them, because only the signature of a signer that is
// trusted, as far as is known, gets as far as a plugin.
func (c Code) LeavesOpen() bool {
	switch c {
	case RevocationUnknown, TrustStoreUnavailable, PluginMissing, PluginIncapable:
		return true
	}
	return false
}
