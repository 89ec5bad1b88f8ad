package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// Media types of the SBOMs, which are their artifact types too.
const (
	TypeCycloneDX = "application/vnd.cyclonedx+json"
	TypeSPDX      = "application/spdx+json"
)

// inImage is what an SBOM is about: an image with its components.
type inImage struct {
	repository, digest, version string
	at                          time.Time
	components                  []Component
}

func (i inImage) purl() string {
	name := i.repository[strings.LastIndex(i.repository, "/")+1:]
	return "pkg:oci/" + name + "@" + strings.Replace(i.digest, ":", "%3A", 1) + "?repository_url=" + i.repository
}

// serial is a UUID (RFC 9562 version 8) that is made from the image's digest and a purpose, so that it is the same each time.
func (i inImage) serial(purpose string) string {
	sum := sha256.Sum256([]byte(purpose + " " + i.repository + "@" + i.digest))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	text := hex.EncodeToString(sum[:16])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}

// cycloneDX writes the SBOM in CycloneDX 1.6.
// https://cyclonedx.org/docs/1.6/json/
func (i inImage) cycloneDX() ([]byte, error) {
	bom := cdx.NewBOM()
	bom.SerialNumber = "urn:uuid:" + i.serial("cyclonedx")
	bom.Metadata = &cdx.Metadata{
		Timestamp: i.at.Format(time.RFC3339),
		Component: &cdx.Component{
			BOMRef: i.purl(), Type: cdx.ComponentTypeContainer, Name: i.repository, Version: i.version, PackageURL: i.purl(),
			Licenses: cycloneLicences([]string{"Apache-2.0"}),
		},
	}
	components, references := []cdx.Component{}, []string{}
	for _, component := range i.components {
		described := cdx.Component{
			BOMRef: component.PURL, Type: cdx.ComponentTypeLibrary, Name: component.Name, Version: component.Version, PackageURL: component.PURL,
			Licenses: cycloneLicences(component.Licences),
		}
		if component.Sum != "" {
			described.Properties = &[]cdx.Property{{Name: module + ":sum", Value: component.Sum}}
		}
		components, references = append(components, described), append(references, component.PURL)
	}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: i.purl(), Dependencies: &references}}
	var text bytes.Buffer
	encoder := cdx.NewBOMEncoder(&text, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false)
	err := encoder.EncodeVersion(bom, cdx.SpecVersion1_6)
	return text.Bytes(), err
}

func cycloneLicences(identifiers []string) *cdx.Licenses {
	if len(identifiers) == 0 {
		return nil
	}
	licences := cdx.Licenses{}
	for _, identifier := range identifiers {
		licences = append(licences, cdx.LicenseChoice{License: &cdx.License{ID: identifier}})
	}
	return &licences
}

// noAssertion is what SPDX says of what is not known.
const noAssertion = "NOASSERTION"

// spdx writes the SBOM in SPDX 2.3.
// https://spdx.github.io/spdx-spec/v2.3/
func (i inImage) spdx() ([]byte, error) {
	image := i.spdxPackage("image", i.repository, i.version, i.purl(), []string{"Apache-2.0"})
	image.PrimaryPackagePurpose = "CONTAINER"
	document := &v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName: i.repository + ":" + i.version, DocumentNamespace: SourceURL + "/spdx/" + i.serial("spdx"),
		CreationInfo:  &v2_3.CreationInfo{Created: i.at.Format(time.RFC3339), Creators: []common.Creator{{CreatorType: "Tool", Creator: module + "/release"}}},
		Packages:      []*v2_3.Package{image},
		Relationships: []*v2_3.Relationship{related("DOCUMENT", "DESCRIBES", "image")},
	}
	for n, component := range i.components {
		id := fmt.Sprintf("component-%d", n)
		described := i.spdxPackage(id, component.Name, component.Version, component.PURL, component.Licences)
		described.PackageSourceInfo = component.Sum
		document.Packages = append(document.Packages, described)
		document.Relationships = append(document.Relationships, related("image", "CONTAINS", common.ElementID(id)))
	}
	var text bytes.Buffer
	err := spdxjson.Write(document, &text, spdxjson.Indent("  "), spdxjson.EscapeHTML(false))
	return text.Bytes(), err
}

func (i inImage) spdxPackage(id, name, version, purl string, licences []string) *v2_3.Package {
	expression := strings.Join(licences, " AND ")
	if expression == "" {
		expression = noAssertion
	}
	return &v2_3.Package{
		PackageSPDXIdentifier: common.ElementID(id), PackageName: name, PackageVersion: version, PackageDownloadLocation: noAssertion,
		PackageLicenseConcluded: expression, PackageLicenseDeclared: noAssertion, PackageCopyrightText: noAssertion,
		PackageExternalReferences: []*v2_3.PackageExternalReference{{Category: "PACKAGE-MANAGER", RefType: "purl", Locator: purl}},
	}
}

func related(from common.ElementID, relationship string, to common.ElementID) *v2_3.Relationship {
	return &v2_3.Relationship{RefA: common.DocElementID{ElementRefID: from}, Relationship: relationship, RefB: common.DocElementID{ElementRefID: to}}
}
