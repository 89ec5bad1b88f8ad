package main

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/audit"
)

// usesOfManifest lists the images of the workloads in a manifest. A namespace that is not written is none: which one it becomes
// is up to who applies it.
func usesOfManifest(name string) (uses []audit.Use, err error) {
	objects, err := readWorkloads(name)
	if err != nil {
		return nil, err
	}
	for _, object := range objects {
		body, err := bodyOf(object, "", nil)
		if err != nil {
			return nil, err
		}
		request, err := core.ParseRequest(body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		workload := workloadOf(object)
		for _, image := range request.Images {
			uses = append(uses, audit.Use{Workload: workload, Container: image.Kind + " " + image.Name, Image: image.Written})
		}
	}
	return uses, nil
}

func workloadOf(object any) audit.Workload {
	fields, _ := object.(map[string]any)
	metadata, _ := fields["metadata"].(map[string]any)
	text := func(from map[string]any, name string) string {
		value, _ := from[name].(string)
		return value
	}
	workload := audit.Workload{Namespace: text(metadata, "namespace"), Kind: text(fields, "kind"), Name: text(metadata, "name")}
	if workload.Name == "" {
		workload.Name = text(metadata, "generateName")
	}
	return workload
}

// usesOfList reads a list of images. A line is an image, or a namespace and an image; # begins a comment.
func usesOfList(name string) (uses []audit.Use, err error) {
	data, err := readManifest(name, maxManifest)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		switch fields := strings.Fields(line); len(fields) {
		case 0:
		case 1:
			uses = append(uses, listedUse("", fields[0]))
		case 2:
			uses = append(uses, listedUse(fields[0], fields[1]))
		default:
			return nil, fmt.Errorf("%s, line %d: want an image, or a namespace and an image", name, n)
		}
	}
	return uses, lines.Err()
}

func listedUse(namespace, image string) audit.Use {
	return audit.Use{Workload: audit.Workload{Namespace: namespace, Kind: "Image", Name: image}, Container: "-", Image: image}
}
