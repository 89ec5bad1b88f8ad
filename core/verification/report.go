package verification

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

// Report has what was observed while notation-go verified one signature. [Assess] decides what follows from it.
type Report struct {
	Refused *reason.Finding `json:"refused,omitzero"` // why notation-go was not run; nil when it was
	Ended   bool            `json:"ended,omitzero"`   // the request's time ran out
	Problem string          `json:"problem,omitzero"` // error that ended the verification; "" for none
	Began   time.Time       `json:"began,omitzero"`

	// Content of the envelope; zero where its integrity does not hold.
	Target     Descriptor          `json:"target,omitzero"` // the signed artifact
	Scheme     trust.Scheme        `json:"scheme,omitzero"`
	SignedAt   time.Time           `json:"signedAt,omitzero"`
	Expiry     time.Time           `json:"expiry,omitzero"` // zero for none
	Chain      []*x509.Certificate `json:"-"`
	Attributes []Attribute         `json:"attributes,omitzero"` // extended signed attributes

	Checks   []CheckReport   `json:"checks,omitzero"`   // in the order in which they were made; shorter where one ended the verification
	Enforced map[string]bool `json:"enforced,omitzero"` // by name of the check: the level enforces it; failures of others are only logged

	StoreUnusable bool             `json:"storeUnusable,omitzero"` // a needed trust store is missing or cannot be used
	Plugin        PluginReport     `json:"plugin,omitzero"`
	Signing       RevocationReport `json:"signing,omitzero"`
	Timestamping  RevocationReport `json:"timestamping,omitzero"`
	FreshUntil    time.Time        `json:"freshUntil,omitzero"` // when the revocation data expires; zero for never
}

// The checks of a signature (Notary Project, trust store and trust policy specification, section "Signature Verification
// Details").
const (
	CheckIntegrity          = "integrity"
	CheckAuthenticity       = "authenticity"
	CheckAuthenticTimestamp = "authenticTimestamp"
	CheckExpiry             = "expiry"
	CheckRevocation         = "revocation"
)

// CheckReport is the result of one check.
type CheckReport struct {
	Name    string `json:"name"`
	Problem string `json:"problem,omitzero"` // why it failed; "" when it passed
}

// Attribute is an extended signed attribute.
type Attribute struct {
	Name     string `json:"name"`           // clipped
	Named    bool   `json:"named,omitzero"` // its name is a string
	Critical bool   `json:"critical,omitzero"`
	Value    string `json:"value,omitzero"` // clipped; "" where it is not a string
}

// PluginReport has what was observed of the verification plugin that a signature names. The zero value is for none.
type PluginReport struct {
	Name     string          `json:"name,omitzero"`
	Failure  *reason.Finding `json:"failure,omitzero"`  // why it could not be found or run; nil when it could, or was not asked for
	Refused  bool            `json:"refused,omitzero"`  // it ran, and answered with an error of the protocol
	Told     bool            `json:"told,omitzero"`     // its metadata is known
	Version  string          `json:"version,omitzero"`  // in its metadata
	Verified bool            `json:"verified,omitzero"` // it answered verify-signature
	Withheld *reason.Finding `json:"withheld,omitzero"` // why it was not shown the signature; nil when it was, or was not needed
}

// RevocationReport has what was observed of the revocation of a chain.
type RevocationReport struct {
	Withheld bool   `json:"withheld,omitzero"` // no server was asked, since the signer is not authentic
	Revoked  bool   `json:"revoked,omitzero"`  // a certificate is revoked
	Unknown  bool   `json:"unknown,omitzero"`  // the status of a certificate could not be found out
	Causes   string `json:"causes,omitzero"`   // the servers that failed, as the end of a sentence
}

// The attributes by which a signature demands a plugin (Notary Project, signature specification, section "Extended
// Attributes").
const (
	attributePlugin        = "io.cncf.notary.verificationPlugin"
	attributePluginVersion = "io.cncf.notary.verificationPluginMinVersion"
)

const pluginVenafi = "venafi-csp"

// Assessment is what follows from the report on a signature. The zero value satisfies nothing.
type Assessment struct {
	Fact     SignatureFact   `json:"fact,omitzero"`     // of a signature that satisfies the statement; zero where it does not
	Rejected *reason.Finding `json:"rejected,omitzero"` // why it does not; nil where it does
	Target   Descriptor      `json:"target,omitzero"`   // that was signed, which Assess does not look at
}

// Assess decides what follows from the report on a signature. The trusted identities are held against the certificate that
// signed whatever a plugin said, and critical attributes that nobody has understood deny. Reports are as large as strangers
// make their certificates, so they are assessed when they come in, and do not stay.
func Assess(task Task, report Report, now time.Time) Assessment {
	if report.Refused != nil {
		return Assessment{Rejected: report.Refused}
	}
	a := assessment{Report: report, task: task, now: now}
	a.holdIdentity()
	if failed := a.enforced(); a.Problem != "" || failed != nil {
		return Assessment{Rejected: a.finding(failed)}
	}
	if name, found := a.notUnderstood(); found {
		return Assessment{Rejected: &reason.Finding{Code: reason.SignatureInvalid, Reason: fmt.Sprintf("its critical attribute %q is not understood, and no plugin has processed it", name)}}
	}
	return Assessment{Fact: a.satisfied(), Target: report.Target}
}

// assessment is the assessment of a report under a task.
type assessment struct {
	Report
	task     Task
	now      time.Time
	impostor bool // the signer has a trusted CA and is not a trusted identity
}

// holdIdentity checks that the signing certificate is a trusted identity, which notation-go may have left to a plugin. It
// writes the result into the authenticity check.
func (a *assessment) holdIdentity() {
	i := slices.IndexFunc(a.Checks, func(c CheckReport) bool { return c.Name == CheckAuthenticity })
	if i < 0 {
		a.Problem = cmp.Or(a.Problem, "the signer's authenticity was not looked at")
		return
	}
	a.Checks = slices.Clone(a.Checks) // which are the caller's
	result := &a.Checks[i]
	if a.Plugin.Withheld != nil {
		result.Problem = a.Plugin.Withheld.Reason
		return
	}
	err := trust.CheckIdentity(a.task.Statement.TrustedIdentities, a.Chain[0].Subject.String())
	if err != nil && (result.Problem == "" || a.task.Stores.Trust(a.task.Statement, a.Scheme, a.Chain) == nil) {
		result.Problem, a.impostor = err.Error(), true
	}
}

// enforced gives the first check that failed and that the level enforces.
func (a *assessment) enforced() *CheckReport {
	i := slices.IndexFunc(a.Checks, func(c CheckReport) bool { return c.Problem != "" && a.Enforced[c.Name] })
	if i < 0 {
		return nil
	}
	return &a.Checks[i]
}

// notUnderstood gives a critical attribute that nothing has processed, which makes a signature invalid (Notary Project,
// signature specification, section "Extended Attributes"). notation-go checks this only where it ran a plugin, and only for
// attributes whose name is a string.
func (a *assessment) notUnderstood() (name string, found bool) {
	for _, attribute := range a.Attributes {
		own := attribute.Name == attributePlugin || attribute.Name == attributePluginVersion
		known := attribute.Named && (a.Plugin.Verified || own || attribute.Name == trust.AttributeX5U && a.Plugin.Withheld != nil)
		if attribute.Critical && !known {
			return attribute.Name, true
		}
	}
	return "", false
}

// satisfied is the fact of a signature that satisfies.
func (a *assessment) satisfied() SignatureFact {
	fact := SignatureFact{
		Verified:   true,
		Signer:     a.Chain[0].Subject.String(),
		SignedAt:   a.SignedAt.UTC(),
		ValidUntil: a.validUntil(),
		FreshUntil: earlier(a.FreshUntil, a.now.Add(a.task.Limits.Keep)),
	}
	if a.task.Limits.Lifetimes {
		fact.Ends, fact.Anchors = a.ends(), a.anchors()
	}
	unknown := false
	for i, check := range a.Checks {
		if check.Problem != "" {
			fact.Warnings = append(fact.Warnings, fmt.Sprintf("%s: %s", check.Name, a.explain(check)))
			unknown = unknown || a.codeOf(&a.Checks[i]) == reason.RevocationUnknown
		}
	}
	fact.RevocationUnknown = unknown && !a.Signing.Withheld && !a.Timestamping.Withheld
	return fact
}

// validUntil is when the first enforced check of validity would fail: at the signature's expiry or, without a verified
// timestamp, when the first of its certificates expires.
func (a *assessment) validUntil() time.Time {
	var until time.Time
	if a.Enforced[CheckExpiry] {
		until = a.Expiry
	}
	if !a.timestamped() && a.Enforced[CheckAuthenticTimestamp] {
		for _, certificate := range a.Chain {
			until = earlier(until, certificate.NotAfter)
		}
	}
	if until.IsZero() {
		return time.Time{}
	}
	return until.UTC()
}

// timestamped tells whether the time of signing was verified. A timestamp in the envelope is not enough: it is verified only
// with a tsa store and, under afterCertExpiry, only once a certificate has expired.
func (a *assessment) timestamped() bool {
	if a.Scheme == trust.SchemeSigningAuthority {
		return true
	}
	if !a.task.Statement.NamesTSA() {
		return false
	}
	expired := slices.ContainsFunc(a.Chain, func(c *x509.Certificate) bool { return a.Began.After(c.NotAfter) })
	return expired || a.task.Statement.VerifyTimestamp != "afterCertExpiry"
}

// finding finds the code and the sentence of a rejection.
func (a *assessment) finding(failed *CheckReport) *reason.Finding {
	if stranger := a.stranger(); stranger != nil {
		return stranger
	}
	switch {
	case a.Plugin.Failure != nil:
		return a.pluginFailure()
	case a.Ended:
		return &reason.Finding{Code: reason.Timeout, Reason: "time ran out while it was verified"}
	case failed != nil:
		return &reason.Finding{Code: a.codeOf(failed), Reason: a.explain(*failed)}
	case a.Plugin.Withheld != nil:
		return a.Plugin.Withheld
	case a.Plugin.Verified && strings.HasPrefix(a.Problem, "extended critical attribute"):
		return &reason.Finding{Code: reason.SignatureInvalid, Reason: a.Problem}
	case a.Plugin.Verified:
		return &reason.Finding{Code: reason.PluginFailed, Reason: a.Problem}
	case a.Plugin.Told && len(a.Checks) == 1: // only integrity was looked at
		return &reason.Finding{Code: reason.PluginIncapable, Reason: a.incapable()}
	}
	return &reason.Finding{Code: reason.SignatureInvalid, Reason: a.Problem}
}

// stranger rejects a signature by an untrusted signer that names a plugin, where the plugin failed before notation-go checked
// the signer. So a plugin's failure is reported only for trusted signers. It gives nil where the signer is trusted, was
// checked, or need not be.
func (a *assessment) stranger() *reason.Finding {
	if a.Plugin.Name == "" || !a.Enforced[CheckAuthenticity] || len(a.Checks) != 1 { // that of integrity
		return nil
	}
	code, err := reason.TrustStoreUnavailable, a.task.Stores.Usable(a.task.Statement, a.Scheme.Store())
	if err == nil {
		code, err = a.codeOfAuthenticity(), a.task.Authentic(a.Scheme, a.Chain)
	}
	if err == nil {
		return nil
	}
	return &reason.Finding{Code: code, Reason: fmt.Sprintf("%s; the plugin %q that it names was not asked", err, reason.Clip(a.Plugin.Name, reason.MaxName))}
}

// pluginFailure is the finding for a plugin that could not be found or run.
func (a *assessment) pluginFailure() *reason.Finding {
	named := slices.ContainsFunc(a.Attributes, func(at Attribute) bool { return at.Name == trust.AttributeX5U && at.Value != "" })
	if a.Plugin.Name == pluginVenafi && a.Plugin.Refused && a.Plugin.Failure.Code == reason.PluginFailed && !named {
		return &reason.Finding{Code: reason.PluginRefused, Reason: a.Plugin.Failure.Reason}
	}
	return a.Plugin.Failure
}

// incapable adds the plugin's version and the remedy to notation-go's error.
func (a *assessment) incapable() string {
	text := fmt.Sprintf("the installed plugin %q is version %s: %s", a.Plugin.Name, a.Plugin.Version, a.Problem)
	if a.Plugin.Name == pluginVenafi {
		text += "; install venafi-csp 0.3.3, or name a version that verifies without saying so in --pluginVerifies"
	}
	return text
}

// explain gives the text of a failed check, and for revocation the servers that failed.
func (a *assessment) explain(check CheckReport) string {
	switch check.Name {
	case CheckRevocation:
		return check.Problem + a.Signing.Causes
	case CheckAuthenticTimestamp:
		return check.Problem + a.Timestamping.Causes
	}
	return check.Problem
}

func (a *assessment) codeOf(check *CheckReport) reason.Code {
	switch check.Name {
	case CheckAuthenticity:
		return a.codeOfAuthenticity()
	case CheckExpiry:
		return reason.SignatureExpired
	case CheckAuthenticTimestamp:
		return a.codeOfTimestamp()
	case CheckRevocation:
		// a plugin that checks revocation itself reports it in its own words
		if a.Signing.Revoked || strings.HasSuffix(strings.TrimRight(check.Problem, `".`), "is revoked") {
			return reason.CertificateRevoked
		}
		return reason.RevocationUnknown
	}
	return reason.SignatureInvalid
}

func (a *assessment) codeOfAuthenticity() reason.Code {
	switch {
	case a.StoreUnusable:
		return reason.TrustStoreUnavailable
	case a.Plugin.Withheld != nil:
		return a.Plugin.Withheld.Code
	case a.Plugin.Verified && !a.impostor:
		return reason.PluginRefused
	}
	return reason.SignatureUntrusted
}

// codeOfTimestamp tells an expired certificate from an invalid timestamp.
func (a *assessment) codeOfTimestamp() reason.Code {
	outside := func(c *x509.Certificate) bool { return a.now.After(c.NotAfter) || a.now.Before(c.NotBefore) }
	switch {
	case a.StoreUnusable:
		return reason.TrustStoreUnavailable
	case a.Timestamping.Unknown:
		return reason.RevocationUnknown
	case slices.ContainsFunc(a.Chain, outside):
		return reason.CertificateExpired
	}
	return reason.TimestampInvalid
}

// Authentic says why the task's statement does not trust a signer; nil when it does. A certificate of the valid chain must be
// in a trust store, and the leaf must be a trusted identity. Only then may a plugin see the signature, and may addresses in
// its certificates be connected to.
func (t Task) Authentic(scheme trust.Scheme, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errors.New("the signature has no certificates")
	}
	if err := t.Stores.Trust(t.Statement, scheme, chain); err != nil {
		return err
	}
	return trust.CheckIdentity(t.Statement.TrustedIdentities, chain[0].Subject.String())
}

// PluginCall describes a call of a plugin that is about to be made for a signature whose integrity holds.
type PluginCall struct {
	Name      string
	Scheme    trust.Scheme
	Chain     []*x509.Certificate
	X5U       any      // the value of trust.AttributeX5U
	HasX5U    bool     // the signature has it
	Platforms []string // hosts of the plugin's signing platform
	Unread    error    // why the plugin's configuration cannot be read; nil when it can
}

// WithholdPlugin says why a plugin may not see a signature: the signer is not authentic, or the plugin would connect to an
// address outside of its signing platform. It gives nil when the plugin may see it.
func (t Task) WithholdPlugin(call PluginCall) *reason.Finding {
	if err := t.Authentic(call.Scheme, call.Chain); err != nil {
		return &reason.Finding{Code: reason.SignatureUntrusted, Reason: fmt.Sprintf("%s; the plugin %q was not asked", err, call.Name)}
	}
	if !call.HasX5U {
		return nil // the plugin refuses by itself, and connects nowhere
	}
	code, remedy := reason.PluginRefused, "sign with the platform whose URL is tpp_url in the plugin's configuration, or name its host in --pluginX5UHosts"
	address, isText := call.X5U.(string)
	err := trust.PlatformAddress(address, call.Platforms)
	if isText && err == nil {
		return nil
	}
	if !isText {
		err = errors.New("it is no text")
	} else if _, malformed := trust.PlatformHost(address); malformed == nil && call.Unread != nil { // the operator's fault: the address may be good
		code, remedy = reason.PluginFailed, call.Unread.Error()
	}
	return &reason.Finding{Code: code, Reason: fmt.Sprintf(
		"the plugin %q was not asked, since the signature has it fetch %q (%s) and %s; %s", call.Name, reason.Clip(fmt.Sprint(call.X5U), reason.MaxName), trust.AttributeX5U, err, remedy)}
}
