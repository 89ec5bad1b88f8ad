package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
)

// The parts of SARIF 2.1.0 (OASIS) that a report needs.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool    sarifTool     `json:"tool"`
		Results []sarifResult `json:"results"` // [] says that nothing was found, and null that nothing was looked for
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID          string    `json:"id"`
		Description sarifText `json:"shortDescription"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID       string            `json:"ruleId"`
		Level        severity          `json:"level"`
		Message      sarifText         `json:"message"`
		Locations    []sarifLocation   `json:"locations"`
		Fingerprints map[string]string `json:"partialFingerprints"`
	}
	sarifLocation struct {
		Physical *sarifPhysical `json:"physicalLocation,omitempty"` // of workloads from a file
		Logical  []sarifLogical `json:"logicalLocations"`
	}
	sarifPhysical struct {
		Artifact struct {
			URI string `json:"uri"`
		} `json:"artifactLocation"`
	}
	sarifLogical struct {
		Name string `json:"fullyQualifiedName"`
		Kind string `json:"kind"`
	}
)

const (
	sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	projectURI  = "https://github.com/nirmata/kyverno-notation-venafi"
)

// printSARIF writes what is not well as results; source is the file that they are about, or "". The same finding has the same fingerprint in every run.
func printSARIF(w io.Writer, source string, entries []entry, rules []rule) error {
	driver := sarifDriver{Name: "kyverno-notation-venafi", InformationURI: projectURI}
	for _, rule := range rules {
		driver.Rules = append(driver.Rules, sarifRule{rule.id, sarifText{rule.description}})
	}
	results := []sarifResult{}
	for _, e := range entries {
		if e.severity == severityNone {
			continue
		}
		location := sarifLocation{Logical: []sarifLogical{{e.place(), "resource"}}}
		if source != "" {
			location.Physical = &sarifPhysical{}
			location.Physical.Artifact.URI = (&url.URL{Path: filepath.ToSlash(source)}).String()
		}
		same := fmt.Sprintf("%x", sha256.Sum256([]byte(e.rule+"\n"+e.place()+"\n"+e.Image)))
		results = append(results, sarifResult{e.rule, e.severity, sarifText{e.message}, []sarifLocation{location}, map[string]string{"workloadImage/v1": same}})
	}
	return printJSON(w, sarifLog{sarifSchema, "2.1.0", []sarifRun{{sarifTool{driver}, results}}})
}
