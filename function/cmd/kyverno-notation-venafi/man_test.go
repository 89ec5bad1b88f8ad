package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra/doc"
)

// TestManPages compares the man page of every command with the one in man; `make man` writes them. They are made here, so that the
// program has nothing of what makes them.
func TestManPages(t *testing.T) {
	written := map[string]bool{}
	for _, command := range below(newRoot(program, helpWidth)) {
		command.DisableAutoGenTag = true
		name := strings.ReplaceAll(command.CommandPath(), " ", "-") + ".1"
		written[name] = true
		var page bytes.Buffer
		date := time.Unix(0, 0) // a page has no date, so that it is the same on every day
		header := &doc.GenManHeader{Title: strings.ToUpper(strings.TrimSuffix(name, ".1")), Section: "1", Manual: "Commands", Source: program, Date: &date}
		if err := doc.GenMan(command, header, &page); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("man", name)
		got := bytes.Replace(page.Bytes(), []byte(`"Jan 1970"`), []byte(`""`), 1)
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(want, got) {
			t.Errorf("%v; %s is not true; run make man", err, file)
		}
		if !bytes.Contains(got, []byte(".SH SYNOPSIS")) || !bytes.Contains(got, []byte(".SH OPTIONS")) {
			t.Errorf("%s lacks a section", name)
		}
	}
	files, err := os.ReadDir("man")
	if err != nil || len(files) != len(written) {
		t.Errorf("%d pages of %d commands, %v", len(files), len(written), err)
	}
}
