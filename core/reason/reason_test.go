package reason

import (
	"strings"
	"testing"
)

func TestCodesHaveTheirClass(t *testing.T) {
	listed := map[Code]bool{}
	for _, info := range Codes() {
		if listed[info.Code] {
			t.Errorf("%s is listed twice", info.Code)
		}
		listed[info.Code] = true
	}
	tests := map[Code]struct {
		class                  Class
		definitive, leavesOpen bool
	}{
		Verified:              {Admitted, false, false},
		Skipped:               {Admitted, false, false},
		NoSignature:           {Denied, true, false},
		RevocationUnknown:     {Denied, false, true},
		TrustStoreUnavailable: {Denied, true, true},
		PluginMissing:         {Denied, true, true},
		PluginIncapable:       {Denied, true, true},
		PluginRefused:         {Denied, true, false},
		RegistryUnavailable:   {Failed, false, false},
		NotGathered:           {Failed, false, false},
		DemandUnknown:         {Failed, false, false},
		NoTrustPolicy:         {Failed, false, false},
		PluginTimeout:         {TimedOut, false, false},
		Overloaded:            {Busy, false, false},
		RequestInvalid:        {Rejected, false, false},
		"Unheard":             {Denied, true, false},
	}
	for code, tt := range tests {
		if unlisted := code == "Unheard" || code == DemandUnknown || code == NoTrustPolicy; listed[code] == unlisted {
			t.Errorf("%s is listed: %t", code, listed[code])
		}
		if code.Class() != tt.class || code.Definitive() != tt.definitive || code.LeavesOpen() != tt.leavesOpen {
			t.Errorf("%s: class %d, definitive %t, leaves open %t; want %+v", code, code.Class(), code.Definitive(), code.LeavesOpen(), tt)
		}
	}
}

func TestClip(t *testing.T) {
	for text, want := range map[string]string{"": "", "four": "four", "fives": "five...", "abcé": "abc..."} {
		if got := Clip(text, 4); got != want {
			t.Errorf("Clip(%q, 4) = %q, want %q", text, got, want)
		}
	}
}

func TestWithoutTokens(t *testing.T) {
	const token = "abcdefghijklmnopqrst.uvw"
	got := WithoutTokens("Authorization: Bearer " + token + ", basic " + token + "; the bearer of bad news")
	if want := "Authorization: Bearer ***, basic ***; the bearer of bad news"; got != want {
		t.Errorf("%q; want %q", got, want)
	}
}

// TestOneLine holds that no text of a stranger looks like another line, or steers a terminal.
func TestOneLine(t *testing.T) {
	if got := OneLine("a\r\nb\x1b[2Jc\u2028d\u202ee é"); got != "a  b [2Jc d e é" || strings.ContainsAny(got, "\r\n\x1b") {
		t.Errorf("%q", got)
	}
}
