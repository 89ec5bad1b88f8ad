// Package release makes a release of the service from a commit, without a container runtime: images for several platforms as one
// index, SBOMs, provenance, the chart as an OCI artifact, and manifests that name the image by digest. All is signed with Notation.
//
// In order: the commit is read ([ReadSource]), the program is built for each platform ([Build]), images are put together from it (the
// file image.go), packages and licences are read from what was linked ([Inventory]), and all of that is written into two OCI layouts
// and beside them (Make). [Push] copies the layouts to a registry, and [Verify] has the program that was released check them.
//
// What depends on the commit and the options alone is the same each time, digest for digest: images, SBOMs, provenance, chart and
// manifests. Signatures hold a time and random numbers, and a scan for vulnerabilities is about the day on which it was made, so these
// differ.
package release
