//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "cluster: this needs Linux, for its namespaces and cgroups; nothing was changed")
	os.Exit(1)
}
