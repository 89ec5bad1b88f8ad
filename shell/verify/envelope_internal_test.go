package verify

import (
	"crypto/rand"
	"testing"

	signature "github.com/notaryproject/notation-core-go/signature/cose"
	"github.com/veraison/go-cose"

	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

func TestEnvelopeHeadersAreBounded(t *testing.T) {
	key, err := signingtest.NewKey(signingtest.ECDSA256)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := cose.NewSigner(cose.AlgorithmES256, key)
	if err != nil {
		t.Fatal(err)
	}
	for attributes, bounded := range map[int]bool{4000: false, 5000: true, 9000: true} {
		message := cose.NewSign1Message()
		message.Headers.Protected.SetAlgorithm(cose.AlgorithmES256)
		var critical []any
		for i := range attributes {
			label := int64(1000 + i)
			message.Headers.Protected[label], critical = int64(1), append(critical, label)
		}
		message.Headers.Protected[cose.HeaderLabelCritical], message.Payload = critical, []byte("{}")
		if err := message.Sign(rand.Reader, nil, signer); err != nil {
			t.Fatal(err)
		}
		envelope, err := message.MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		if err := contentsOf(signature.MediaTypeEnvelope, envelope).bound(); (err != nil) != bounded {
			t.Errorf("%d attributes: %v; want it bounded: %t", attributes, err, bounded)
		}
	}
}
