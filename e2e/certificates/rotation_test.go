//go:build e2e

package certificates

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
)

// stored gives the serial number of the certificate in the Secret.
func (fx *fixture) stored(t *testing.T) *big.Int {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(fx.serving(t))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("the Secret has no certificate")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate.SerialNumber
}

// testRotation sends requests without a pause while certificates, which by the managers' flags live for seconds, are replaced.
// A client reads the bundle about once in 200 ms, so that its trust is a little old.
func (fx *fixture) testRotation(t *testing.T, replicas []*process) {
	lives := []string{"--caDuration", "30s", "--certificateDuration", "20s"}
	fx.manage(t, lives...)
	fx.manage(t, lives...)
	const calls = 500
	shown, bundles := map[string]bool{}, map[string]bool{}
	bundle, read := fx.bundle(t), time.Now()
	failures, made := 0, 0
	end := time.Now().Add(5 * time.Minute) // a busy machine makes few calls
	for ; time.Now().Before(end); made++ {
		if time.Since(read) > 200*time.Millisecond {
			bundle, read = fx.bundle(t), time.Now()
			for _, authority := range certificates.ParseBundle([]byte(bundle)) {
				bundles[certificates.Fingerprint(authority)] = true
			}
		}
		certificate, err := replicas[made%len(replicas)].call(t.Context(), bundle)
		if err != nil {
			failures++
			t.Errorf("call %d: %v", made, err)
			continue
		}
		shown[certificate.SerialNumber.String()] = true
		if len(bundles) >= 4 && len(shown) >= 6 && made >= calls {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("%d calls, %d failures, %d certificates, %d CAs", made, failures, len(shown), len(bundles))
	if made < calls {
		t.Errorf("%d calls; want %d", made, calls)
	}
	if len(bundles) < 3 || len(shown) < 4 {
		t.Error("too little was replaced to tell anything")
	}
}
