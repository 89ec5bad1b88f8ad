package config

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/shell/issuer"
)

// publicCAs is where images based on distroless, such as Kyverno's, and Debian have the public CAs.
const publicCAs = "/etc/ssl/certs/ca-certificates.crt"

// TestPrintTrusted is no test: a process of its own runs it and answers each line, a file, with whether it trusts the CA in it.
func TestPrintTrusted(t *testing.T) {
	if os.Getenv("PRINT_TRUSTED") == "" {
		t.Skip("it is run by another test")
	}
	for files := bufio.NewScanner(os.Stdin); files.Scan(); {
		text, err := os.ReadFile(files.Text())
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		authority, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		_, err = authority.Verify(x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, CurrentTime: authority.NotBefore.Add(time.Minute)})
		fmt.Printf("trusted=%t\n", err == nil)
	}
}

// asker starts a process with an environment, and gives what it answers for a file.
func asker(t *testing.T, env ...string) func(file string) bool {
	t.Helper()
	process := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPrintTrusted$")
	process.Env = append([]string{"PRINT_TRUSTED=1"}, env...)
	questions, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { questions.Close(); _ = process.Wait() })
	lines := bufio.NewScanner(answers)
	return func(file string) bool {
		t.Helper()
		if _, err := io.WriteString(questions, file+"\n"); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			if answer, is := strings.CutPrefix(lines.Text(), "trusted="); is {
				return answer == "true"
			}
		}
		t.Fatal("there is no answer")
		return false
	}
}

// mount fills a folder as a kubelet fills the volume of a ConfigMap.
func mount(t *testing.T, dir, version string, text []byte) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(dir, version), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, version, "ca.crt"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(dir, "..data"))
	if err := os.Symlink(version, filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..data/ca.crt", filepath.Join(dir, "ca.crt")); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
}

func authorityPEM(t *testing.T) []byte {
	t.Helper()
	pair, err := issuer.Authority(certificates.Policy{CADuration: time.Hour, Names: []string{"svc.ns.svc"}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	text, _, err := pair.PEM()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestWhatTheVariablesOfTrustMean is what README.md says about SSL_CERT_DIR and SSL_CERT_FILE, tried with processes of the Go
// version that Kyverno is built with too.
func TestWhatTheVariablesOfTrustMean(t *testing.T) {
	public, err := os.ReadFile(publicCAs)
	if err != nil {
		t.Skip("there are no public CAs on this machine: ", err)
	}
	dir, single := t.TempDir(), t.TempDir()
	ours, publicFile := filepath.Join(dir, "ca.crt"), filepath.Join(single, "public.crt")
	mount(t, dir, "..1", authorityPEM(t))
	end := []byte("-----END CERTIFICATE-----\n")
	if err := os.WriteFile(publicFile, append(bytes.SplitAfter(public, end)[0], '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	for sentence, test := range map[string]struct {
		env          []string
		public, ours bool
	}{
		"nothing is set":                         {nil, true, false},
		"as config/kyverno sets it":              {[]string{"SSL_CERT_DIR=/etc/ssl/certs:" + dir}, true, true},
		"the other way round":                    {[]string{"SSL_CERT_DIR=" + dir + ":/etc/ssl/certs"}, true, true},
		"the folder alone keeps the file":        {[]string{"SSL_CERT_DIR=" + dir}, true, true},
		"the file alone keeps the folders":       {[]string{"SSL_CERT_FILE=" + ours}, true, true},
		"both replace all":                       {[]string{"SSL_CERT_FILE=" + ours, "SSL_CERT_DIR=" + dir}, false, true},
		"a folder that is not there is no fault": {[]string{"SSL_CERT_DIR=/etc/ssl/certs:/not/there"}, true, false},
		"folders are not searched":               {[]string{"SSL_CERT_DIR=/etc/ssl/certs:" + filepath.Dir(dir)}, true, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			trusts := asker(t, test.env...)
			if got := trusts(publicFile); got != test.public {
				t.Errorf("it trusts public CAs: %t", got)
			}
			if got := trusts(ours); got != test.ours {
				t.Errorf("it trusts ours: %t", got)
			}
		})
	}
	t.Run("what changes later is not seen", func(t *testing.T) {
		trusts := asker(t, "SSL_CERT_DIR=/etc/ssl/certs:"+dir)
		if !trusts(ours) {
			t.Fatal("it does not trust the first CA")
		}
		mount(t, dir, "..2", authorityPEM(t))
		if trusts(ours) {
			t.Error("it trusts a CA that came later")
		}
		if !trusts(filepath.Join(dir, "..1", "ca.crt")) {
			t.Error("it does not trust the first CA any longer")
		}
		if !asker(t, "SSL_CERT_DIR=/etc/ssl/certs:"+dir)(ours) {
			t.Error("a new process does not trust it")
		}
	})
}
