package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
)

// image is made of static programs and nothing else: one layer, no base.
type image struct {
	Name       string            // without registry and tag, see imageName
	Files      map[string]string // path inside, without the leading slash, to path outside
	Entrypoint []string
	Command    []string
	Env        []string
	User       string
}

// imageName is what manifests call an image. Knative resolves no tags of dev.local, and nobody pulls a tag other than
// latest as long as the image is there.
func imageName(name string) string { return "dev.local/" + name + ":v1" }

// programImage runs one program as nobody.
func programImage(name, program string) image {
	return image{Name: name, Files: map[string]string{name: program}, Entrypoint: []string{"/" + name}, User: "65532:65532"}
}

// blob is a file of an archive (OCI image specification v1.1, image layout).
type blob struct {
	digest string // hexadecimal
	size   int64
	write  func(io.Writer) error
}

func bytesBlob(data []byte) blob {
	sum := sha256.Sum256(data)
	return blob{digest: hex.EncodeToString(sum[:]), size: int64(len(data)), write: func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}}
}

// layerBlob writes the layer once to know its digest; the files are read again when it is written out.
func (i image) layerBlob() (blob, error) {
	counted := &counter{hash: sha256.New()}
	if err := i.writeLayer(counted); err != nil {
		return blob{}, err
	}
	return blob{digest: hex.EncodeToString(counted.hash.Sum(nil)), size: counted.size, write: i.writeLayer}, nil
}

type counter struct {
	hash hash.Hash
	size int64
}

func (c *counter) Write(data []byte) (int, error) {
	c.size += int64(len(data))
	return c.hash.Write(data)
}

func (i image) writeLayer(w io.Writer) error {
	archive := tar.NewWriter(w)
	// Programs that write temporary files find a place for them.
	if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}); err != nil {
		return fmt.Errorf("layer of %s: %w", i.Name, err)
	}
	for _, inside := range sortedKeys(i.Files) {
		if err := writeFile(archive, inside, i.Files[inside]); err != nil {
			return fmt.Errorf("layer of %s: %w", i.Name, err)
		}
	}
	return archive.Close()
}

func writeFile(archive *tar.Writer, inside, outside string) error {
	file, err := os.Open(outside)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	for at, c := range inside {
		if c == '/' {
			if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: inside[:at+1], Mode: 0o755}); err != nil {
				return err
			}
		}
	}
	if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: inside, Mode: 0o555, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(archive, file)
	return err
}

// write writes the image as an archive that `ctr images import` reads.
func (i image) write(w io.Writer) error {
	layer, err := i.layerBlob()
	if err != nil {
		return err
	}
	blobs, err := i.describe(layer)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	for name, b := range blobs {
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o444, Size: b.size}); err != nil {
			return fmt.Errorf("archive of %s: %w", i.Name, err)
		}
		if err := b.write(archive); err != nil {
			return fmt.Errorf("archive of %s: %w", i.Name, err)
		}
	}
	return archive.Close()
}

// describe returns all files of the archive by name.
func (i image) describe(layer blob) (map[string]blob, error) {
	type object = map[string]any
	const manifestType = "application/vnd.oci.image.manifest.v1+json"
	files := map[string]blob{"blobs/sha256/" + layer.digest: layer}
	failed := error(nil)
	add := func(content any) blob {
		data, err := json.Marshal(content)
		if err != nil {
			failed = fmt.Errorf("archive of %s: %w", i.Name, err)
		}
		b := bytesBlob(data)
		files["blobs/sha256/"+b.digest] = b
		return b
	}
	descriptor := func(mediaType string, b blob) object {
		return object{"mediaType": mediaType, "digest": "sha256:" + b.digest, "size": b.size}
	}
	config := add(object{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": object{"User": i.User, "Entrypoint": i.Entrypoint, "Cmd": i.Command, "Env": i.Env},
		"rootfs": object{"type": "layers", "diff_ids": []string{"sha256:" + layer.digest}},
	})
	manifest := add(object{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": descriptor("application/vnd.oci.image.config.v1+json", config),
		"layers": []object{descriptor("application/vnd.oci.image.layer.v1.tar", layer)},
	})
	entry := descriptor(manifestType, manifest)
	entry["annotations"] = object{"io.containerd.image.name": imageName(i.Name)}
	index, err := json.Marshal(object{"schemaVersion": 2, "manifests": []object{entry}})
	files["index.json"] = bytesBlob(index)
	files["oci-layout"] = bytesBlob([]byte(`{"imageLayoutVersion":"1.0.0"}`))
	if err != nil {
		failed = err
	}
	return files, failed
}

// imageMarker is the file that tells which image of a name was imported.
func (c *Cluster) imageMarker(name string) string { return c.path("images", name) }

// importImage hands the image to containerd, unless it has the same one.
func (c *Cluster) importImage(ctx context.Context, i image) error {
	layer, err := i.layerBlob()
	if err != nil {
		return err
	}
	key, err := json.Marshal([]any{layer.digest, i.Entrypoint, i.Command, i.Env, i.User})
	if err != nil {
		return fmt.Errorf("image %s: %w", i.Name, err)
	}
	marker := c.imageMarker(i.Name)
	if known, err := os.ReadFile(marker); err == nil && bytes.Equal(known, key) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, importTime)
	defer cancel()
	read, write := io.Pipe()
	defer read.Close() // else who writes would wait where ctr ends early
	go func() { write.CloseWithError(i.write(write)) }()
	cmd := c.enter(ctx, "ctr", "--address="+containerdSocket, "--namespace=k8s.io", "images", "import", "-")
	cmd.Stdin = read
	if err := finish(cmd, "import image "+i.Name); err != nil {
		return err
	}
	return writeConfig(marker, string(key))
}

// enter runs a program inside the cluster's network and mounts.
func (c *Cluster) enter(ctx context.Context, program string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--target=" + fmt.Sprint(c.supervisor.PID), "--net", "--mount", "--", program}, args...)...)
}

// Inside is a command line that sees the cluster as its node does: its network, its names, its processes, and the machine's files. It runs in
// a folder, as the administrator to kubectl and whatever else reads KUBECONFIG.
func (c *Cluster) Inside(ctx context.Context, dir string, environment []string, line string) *exec.Cmd {
	cmd := c.enter(ctx, "nsenter", "--pid=/proc/1/ns/pid", "--", "sh", "-c", `cd "$0" && eval "$1"`, dir, line)
	cmd.Env = append(slices.Clone(environment), "KUBECONFIG="+c.kubeconfig("admin"))
	return cmd
}
