package adversary_test

import (
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/adversary/oracle"
	"github.com/nirmata/kyverno-notation-venafi/adversary/world"
)

// TestTheOracle knows right from wrong where nobody needs a second opinion.
func TestTheOracle(t *testing.T) {
	by := func(name string) world.Envelope { return world.Envelope{Signer: shared.signers.Get(name)} }
	expired := by("acme-release")
	expired.Time, expired.Expiry = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	forged := by("acme-release")
	forged.ByStranger = shared.signers.Get("mallory-release")
	concise := by("acme-release")
	concise.Format = world.COSE
	unknown := by("acme-release")
	unknown.Attributes, unknown.Critical = map[string]string{"com.example.x": "y"}, []string{"com.example.x"}
	tests := map[string]struct {
		envelope world.Envelope
		level    string
		want     oracle.Opinion
	}{
		"a good signature":                        {by("acme-release"), "strict", oracle.Yes},
		"a good signature as COSE":                {concise, "strict", oracle.Yes},
		"an RSA key":                              {by("acme-release-rsa"), "strict", oracle.Yes},
		"an intermediate authority":               {by("line-release"), "strict", oracle.Yes},
		"another signer of the authority":         {by("acme-build"), "strict", oracle.No},
		"another signer of the authority, logged": {by("acme-build"), "audit", oracle.Yes},
		"another authority of the same name":      {by("mallory-release"), "strict", oracle.No},
		"another authority, logged":               {by("mallory-release"), "audit", oracle.Yes},
		"a certificate that has expired":          {by("acme-expired"), "strict", oracle.No},
		"a certificate that has expired, logged":  {by("acme-expired"), "permissive", oracle.Yes},
		"a signature that has expired":            {expired, "strict", oracle.No},
		"a signature that has expired, logged":    {expired, "permissive", oracle.Yes},
		"another key than the certificate's":      {forged, "audit", oracle.No},
		"an authority below its path length":      {by("beyond-release"), "audit", oracle.No},
		"a leaf that issued a leaf":               {by("below-a-leaf"), "audit", oracle.No},
		"a server's certificate":                  {by("acme-server"), "audit", oracle.No},
		"a weak key":                              {by("acme-weak"), "audit", oracle.No},
		"a critical attribute of no meaning":      {unknown, "audit", oracle.No},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := world.Bare("w5", shared.signers)
			w.Trust(test.level, "*")
			w.Sign("app", w.PushImage("app", "v1", "one"), test.envelope)
			request := oracle.Request{TrustPolicy: "w5-p", Fields: []oracle.Field{{Pointer: "/spec", Image: "w5.example/app:v1"}}}
			judgements, refused := w.Case.Judge(request)
			if refused != "" || judgements[0].Opinion != test.want {
				t.Errorf("%+v, %q; want %s", judgements, refused, test.want)
			}
		})
	}
}
