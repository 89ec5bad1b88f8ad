package sharedcache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// readerConn is a connection of which only reading matters.
type readerConn struct {
	net.Conn
	io.Reader
}

func (c readerConn) Read(into []byte) (int, error) { return c.Reader.Read(into) }
func (readerConn) Close() error                    { return nil }

func TestAnswersWithinBoundsAreReadAsTheyAre(t *testing.T) {
	for sentence, answer := range map[string]string{
		"a line":                   "+OK\r\n",
		"an error":                 "-ERR unknown command\r\n",
		"a number":                 ":-7\r\n",
		"a text":                   "$5\r\nhello\r\n",
		"a text with a line break": "$4\r\n\r\n\r\n\r\n",
		"an empty text":            "$0\r\n\r\n",
		"no text":                  "$-1\r\n",
		"a list":                   "*2\r\n$1\r\na\r\n:1\r\n",
		"an empty list":            "*0\r\n",
		"a map":                    "%1\r\n+a\r\n%0\r\n",
		"no list":                  "*-1\r\n",
		"lists in lists":           "*2\r\n*1\r\n*1\r\n:1\r\n*0\r\n",
		"one answer after another": "+OK\r\n*1\r\n$1\r\na\r\n$-1\r\n+OK\r\n",
		"many answers":             strings.Repeat("*2\r\n$1\r\na\r\n:1\r\n", maxElements),
		"the longest text":         fmt.Sprintf("$%d\r\n%s\r\n", maxText, strings.Repeat("x", maxText)),
	} {
		for cut, reader := range map[string]io.Reader{"whole": strings.NewReader(answer), "byte by byte": iotest.OneByteReader(strings.NewReader(answer))} {
			if got, err := io.ReadAll(guarded(readerConn{Reader: reader})); string(got) != answer || err != nil {
				t.Errorf("%s, %s: %d bytes of %d: %v", sentence, cut, len(got), len(answer), err)
			}
		}
	}
}

func TestAnswersThatBreakABoundEnd(t *testing.T) {
	for sentence, answer := range map[string]string{
		"a text that is too long":                        "$99999999\r\n",
		"one that is longer than a number can say":       "$99999999999999999999\r\n",
		"a negative length":                              "$-2\r\n",
		"a list of negative length":                      "*-5\r\n",
		"a length that is none":                          "$1x\r\n",
		"an empty length":                                "*\r\n",
		"a list that is too long":                        "*16777216\r\n",
		"lists that are too long together":               "*2\r\n" + strings.Repeat(fmt.Sprintf("*%d\r\n", maxElements-1), 2),
		"lists within lists":                             strings.Repeat("*1\r\n", maxDepth+1),
		"a line that does not end":                       "+" + strings.Repeat("x", maxLine+1),
		"a line with half an end":                        "+OK\n",
		"a stream":                                       "$?\r\n;4\r\nabcd\r\n",
		"an attribute, which is read by calling oneself": "|1\r\n+a\r\n+b\r\n",
		"another protocol":                               "HTTP/1.1 200 OK\r\n",
		"an answer that is too long":                     "*64\r\n" + strings.Repeat(fmt.Sprintf("$%d\r\n%s\r\n", maxText, strings.Repeat("x", maxText)), 64),
	} {
		got, err := io.ReadAll(guarded(readerConn{Reader: strings.NewReader(answer + "+OK\r\n")}))
		if !errors.Is(err, errAnswer) || len(got) > maxAnswer {
			t.Errorf("%s: %d bytes: %v", sentence, len(got), err)
		}
		if !strings.HasPrefix(answer, string(got)) {
			t.Errorf("%s: what is read is not its beginning", sentence)
		}
	}
}

// FuzzGuard holds that what is read is a beginning of what was sent, however it is cut.
func FuzzGuard(f *testing.F) {
	for _, answer := range []string{"+OK\r\n", "$5\r\nhello\r\n", "*2\r\n*1\r\n:1\r\n$-1\r\n", "$-2\r\n", "*9999\r\n", "%1\r\n"} {
		f.Add([]byte(answer), 3)
	}
	f.Fuzz(func(t *testing.T, answer []byte, cut int) {
		whole, err := io.ReadAll(guarded(readerConn{Reader: bytes.NewReader(answer)}))
		single, err2 := io.ReadAll(guarded(readerConn{Reader: iotest.OneByteReader(bytes.NewReader(answer))}))
		if !bytes.HasPrefix(answer, whole) || !bytes.Equal(whole, single) || (err == nil) != (err2 == nil) {
			t.Fatalf("%q: %q (%v) and %q (%v)", answer, whole, err, single, err2)
		}
	})
}

// lateConn has its answer from the start, and sees the end of its time before the answer, as in a process with much to do.
type lateConn struct {
	net.Conn
	answer   string
	late     int       // reads that see the end of their time
	deadline time.Time // of the next read
}

func (c *lateConn) SetReadDeadline(t time.Time) error {
	c.deadline = t
	return nil
}

func (c *lateConn) Read(into []byte) (int, error) {
	time.Sleep(max(0, time.Until(c.deadline)) * time.Duration(min(c.late, 1)))
	if c.late > 0 || !time.Now().Before(c.deadline) {
		c.late--
		return 0, os.ErrDeadlineExceeded
	}
	return copy(into, c.answer), nil
}

func TestAnswersAreLookedForUntilTheEnd(t *testing.T) {
	for sentence, tt := range map[string]struct {
		late int
		over time.Duration // since the end
		want error
		took time.Duration // at most
	}{
		"at once":                           {0, 0, nil, 0},
		"at the second look":                {1, 0, nil, firstLook},
		"at the fourth":                     {3, 0, nil, 7 * time.Millisecond},
		"once when the end is over already": {0, time.Second, nil, 0},
		"and not for ever":                  {1000, 0, os.ErrDeadlineExceeded, 10*time.Millisecond + lastLook},
		"nor when the end is over":          {1000, time.Second, os.ErrDeadlineExceeded, lastLook},
	} {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := guarded(&lateConn{answer: "+OK\r\n", late: tt.late})
				began := time.Now()
				_ = conn.SetReadDeadline(began.Add(10*time.Millisecond - tt.over))
				n, err := conn.Read(make([]byte, 100))
				if !errors.Is(err, tt.want) || err == nil && n != 5 || time.Since(began) > tt.took {
					t.Errorf("after %s: %d bytes, %v", time.Since(began), n, err)
				}
			})
		})
	}
}
