package simulation

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"sync"
	"time"
)

// person signs, with a CA of their own.
type person struct {
	ca, leaf *x509.Certificate
	pem      string // of the CA
}

// people are the signers, the same for all sequences: what certificates hold decides nothing here.
var people = sync.OnceValue(func() []person {
	all := make([]person, signers)
	for i := range all {
		ca := x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: fmt.Sprint("CA ", i), Organization: []string{"Acme"}},
			NotBefore: begin.AddDate(-1, 0, 0), NotAfter: begin.AddDate(30, 0, 0), BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
		}
		key := newKey()
		all[i].ca = certify(&ca, &ca, key, key)
		leaf := x509.Certificate{
			SerialNumber: big.NewInt(int64(100 + i)),
			Subject: pkix.Name{
				CommonName: fmt.Sprint("signer-", i), Organization: []string{"Acme"}, Locality: []string{"Here"}, Province: []string{"WA"}, Country: []string{"US"},
			},
			NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		}
		all[i].leaf = certify(&leaf, all[i].ca, newKey(), key)
		all[i].pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: all[i].ca.Raw}))
	}
	return all
})

// begin is when virtual time begins.
var begin = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func certify(template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		panic(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return certificate
}
