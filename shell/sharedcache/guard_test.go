package sharedcache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
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
