package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/samber/lo"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/nirmata/kyverno-notation-venafi/core"
)

// maxManifest is the upper bound on the size of a manifest file; bytes.
const maxManifest = 32 << 20

// readWorkloads gives the Pods of a manifest and its objects with a pod template. Objects of other kinds, such as Services,
// have no images and are left out.
func readWorkloads(name string) ([]any, error) {
	data, err := readManifest(name, maxManifest)
	if err != nil {
		return nil, err
	}
	var workloads []any
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for n := 1; ; n++ {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s, document %d: %w", name, n, err)
		}
		var object map[string]any
		if err := yaml.UnmarshalStrict(document, &object); err != nil {
			return nil, fmt.Errorf("%s, document %d: %w", name, n, err)
		}
		workloads = append(workloads, workloadsIn(object)...)
	}
	if len(workloads) == 0 {
		return nil, fmt.Errorf("%s holds no Pod and no workload with a pod template", name)
	}
	return workloads, nil
}

// readManifest reads a file, or standard input for -, of at most a number of bytes.
func readManifest(name string, most int64) ([]byte, error) {
	file := os.Stdin
	if name != "-" {
		var err error
		if file, err = os.Open(name); err != nil {
			return nil, err
		}
		defer file.Close()
	}
	data, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s is over %d bytes", name, most)
	}
	return data, nil
}

// workloadsIn gives the workloads among the items of a list. An object that has both items and a pod template is taken as
// both: kubectl treats every object with items as a list, and other clients go by its kind.
func workloadsIn(object map[string]any) (workloads []any) {
	if items, ok := object["items"].([]any); ok {
		for _, item := range items {
			if o, ok := item.(map[string]any); ok {
				workloads = append(workloads, workloadsIn(o)...)
			}
		}
		object = lo.OmitByKeys(object, []string{"items"})
	}
	if object["kind"] == "Pod" || core.HasPodSpec(object) {
		workloads = append(workloads, object)
	}
	return workloads
}
