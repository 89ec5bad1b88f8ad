package release

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// imageInManifests is how config names the image.
const imageInManifests = "image: ghcr.io/nirmata/kyverno-notation-venafi:latest"

// manifestFiles are those that name the image, by digest, and the definitions alone.
func manifestFiles(source Source, options Options, digest string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range []string{"install.yaml", "knative.yaml"} {
		text, err := os.ReadFile(filepath.Join(source.Dir, "config", name))
		if err != nil {
			return nil, err
		}
		if !bytes.Contains(text, []byte(imageInManifests+"\n")) {
			return nil, fmt.Errorf("%s does not say %q", name, imageInManifests)
		}
		files[name] = bytes.ReplaceAll(text, []byte(imageInManifests+"\n"), []byte("image: "+options.Repository+"@"+digest+"\n"))
	}
	for _, name := range []string{"trustpolicies.yaml", "truststores.yaml"} {
		text, err := os.ReadFile(filepath.Join(source.Dir, "config", "crds", name))
		if err != nil {
			return nil, err
		}
		files["crds.yaml"] = append(append(files["crds.yaml"], "---\n"...), text...)
	}
	return files, nil
}
