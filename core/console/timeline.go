package console

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"
)

const day = 24 * time.Hour

// The span of a time line, from and to now.
const (
	linePast   = 60 * day
	lineFuture = 2 * 365 * day
)

// LineLength is the length of a time line, in parts of which Span and Mark speak.
const LineLength = 1000

// Certificate is a certificate on a time line.
type Certificate struct {
	Subject     string
	Fingerprint string // SHA-256, in hexadecimal
	NotBefore   time.Time
	NotAfter    time.Time
	Days        int   // until it expires; negative since it has
	State       State // Doubt within 30 days of its end
	From, To    int   // on the time line
	Beyond      bool  // it lasts beyond the time line
}

// NewCertificate places a certificate on a time line.
func NewCertificate(c *x509.Certificate, now time.Time) Certificate {
	sum := sha256.Sum256(c.Raw)
	placed := Certificate{
		Subject: c.Subject.String(), Fingerprint: hex.EncodeToString(sum[:]), NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(),
		Days: DaysLeft(c.NotAfter, now), State: Good, From: place(c.NotBefore, now), To: place(c.NotAfter, now), Beyond: c.NotAfter.Sub(now) > lineFuture,
	}
	switch {
	case now.After(c.NotAfter):
		placed.State = Bad
	case now.Before(c.NotBefore) || c.NotAfter.Sub(now) <= 30*day:
		placed.State = Doubt
	}
	return placed
}

// Length is that of the certificate's bar; at least 4, so that it is seen.
func (c Certificate) Length() int { return max(4, c.To-c.From) }

// Words say how long the certificate lasts.
func (c Certificate) Words() string { return DaysWords(c.Days) }

// DaysLeft is how many whole days are left until a time; negative where it has passed.
func DaysLeft(at, now time.Time) int {
	left := at.Unix() - now.Unix() // a Duration has no room for the times of certificates
	if left < 0 || left == 0 && at.Before(now) {
		return int(left/86400) - 1
	}
	return int(left / 86400)
}

// DaysWords say how many days are left, or since how many days none is.
func DaysWords(days int) string {
	switch {
	case days == 0:
		return "less than a day left"
	case days == 1:
		return "1 day left"
	case days >= 0:
		return fmt.Sprintf("%d days left", days)
	case days == -1:
		return "expired less than a day ago"
	}
	return fmt.Sprintf("expired %d days ago", -days-1)
}

// place is where a time stands on the time line; at its ends what is beyond them.
func place(at, now time.Time) int {
	offset := linePast + min(max(at.Sub(now), -linePast), lineFuture)
	return int(offset/time.Minute) * LineLength / int((linePast+lineFuture)/time.Minute)
}

// Mark is a mark on a time line.
type Mark struct {
	At     int
	Label  string
	Anchor string // which part of the label stands there, as SVG has it
}

// Marks are the marks of every time line.
func Marks() []Mark {
	var now time.Time
	mark := func(after time.Duration, label, anchor string) Mark {
		return Mark{place(now.Add(after), now), label, anchor}
	}
	const year = 365 * day
	return []Mark{mark(0, "today", "middle"), mark(year/2, "6 months", "middle"), mark(year, "1 year", "middle"), mark(3*year/2, "18 months", "middle"), mark(2*year, "2 years", "end")}
}
