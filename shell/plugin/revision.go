package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Revision changes when a plugin is installed, removed or replaced, and when the plugin configuration changes: what
// a plugin said before does not count then. It costs a directory's listing and a stat per plugin.
func (m *Manager) Revision() string {
	hash := sha256.New()
	names, err := m.List(context.Background())
	if err != nil {
		fmt.Fprintln(hash, err)
	}
	for _, name := range names {
		_, file, err := m.locate(name)
		fmt.Fprintf(hash, "%q %+v %t\n", name, file, err == nil)
	}
	config, _ := json.Marshal(m.options.Config()) // strings always encode
	hash.Write(config)
	return hex.EncodeToString(hash.Sum(nil))
}
