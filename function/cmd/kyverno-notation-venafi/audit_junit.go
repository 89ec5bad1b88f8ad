package main

import (
	"cmp"
	"encoding/xml"
	"io"
	"slices"
)

// The parts of JUnit's XML that readers of it agree on.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string       `xml:"classname,attr"`
		Name    string       `xml:"name,attr"`
		Failure *junitReason `xml:"failure"`
		Error   *junitReason `xml:"error"`
		Out     string       `xml:"system-out,omitempty"`
	}
	junitReason struct {
		Type    string `xml:"type,attr"`
		Message string `xml:"message,attr"`
	}
)

// printJUnit writes a test suite for each namespace and a case for each image of a workload. What is denied fails, and what could
// not be told is an error.
func printJUnit(w io.Writer, name string, entries []entry) error {
	all := junitSuites{Name: name}
	for _, e := range entries {
		name := cmp.Or(plain(e.Namespace), "no namespace")
		i := slices.IndexFunc(all.Suites, func(s junitSuite) bool { return s.Name == name })
		if i < 0 {
			i = len(all.Suites)
			all.Suites = append(all.Suites, junitSuite{Name: name})
		}
		all.Suites[i].add(e)
	}
	for _, suite := range all.Suites {
		all.Tests, all.Failures, all.Errors = all.Tests+suite.Tests, all.Failures+suite.Failures, all.Errors+suite.Errors
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", "  ")
	if err := encoder.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (s *junitSuite) add(e entry) {
	c := junitCase{Class: plain(e.place()), Name: plain(e.Image)}
	why := &junitReason{Type: e.rule, Message: plain(e.message)}
	switch {
	case e.untold:
		c.Error = why
		s.Errors++
	case e.severity == severityError:
		c.Failure = why
		s.Failures++
	case e.severity != severityNone:
		c.Out = plain(e.message)
	}
	s.Tests++
	s.Cases = append(s.Cases, c)
}
