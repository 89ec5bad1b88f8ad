package migrate

import (
	"bytes"
	"errors"
	"io"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// DefaultURL is where the service is in every way of installing it.
const DefaultURL = "https://svc.kyverno-notation-venafi.svc"

// Options are what a ClusterPolicy does not say.
type Options struct {
	URL       string     // of the service, https, without a path; "" is DefaultURL
	Resources []Resource // kinds beside those of Kubernetes
}

// translation is the work on one manifest.
type translation struct {
	url   string
	known []Resource
	problems
}

// Policies gives a pair for each rule of the ClusterPolicies in a manifest. It takes nothing else: the result stands in for the
// whole of the manifest. Any other error than one of the options is [Errors].
func Policies(manifest []byte, options Options) ([]Pair, error) {
	t := &translation{url: options.URL, known: append(append([]Resource{}, workloads...), options.Resources...)}
	if t.url == "" {
		t.url = DefaultURL
	}
	if err := checkURL(t.url); err != nil {
		return nil, err
	}
	var pairs []Pair
	decoder := yaml.NewDecoder(bytes.NewReader(manifest))
	for documents := 0; ; documents++ {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) && documents == 0 {
			t.add(0, "", "the manifest is empty")
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.syntax(err)
			break
		}
		for _, p := range t.policiesIn(document.Content[0], "") {
			for _, r := range p.rules {
				if len(t.found) == 0 {
					pairs = append(pairs, t.pair(&p, r))
				}
			}
		}
	}
	if len(t.found) > 0 {
		return nil, t.found
	}
	return pairs, nil
}

// checkURL refuses plain HTTP, since the policies send a token.
func checkURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" || strings.HasSuffix(address, "/") {
		return errors.New(quoted(address) + " is not https://HOST or https://HOST:PORT; the policies send a token, so there is no plain HTTP")
	}
	return nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:unmarshal errors:\s*)?line (\d+): `)

// syntax records the parser's error with its line.
func (t *translation) syntax(err error) {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 0
	if match := yamlLine.FindStringSubmatch(err.Error()); match != nil {
		line, _ = strconv.Atoi(match[1])
		text = strings.TrimPrefix(err.Error(), match[0])
	}
	t.add(line, "", "is no YAML: %s", clip(text))
}

// policiesIn reads a document: a ClusterPolicy, or a list of them.
func (t *translation) policiesIn(node *yaml.Node, field string) []clusterPolicy {
	v := value{node, field, &t.problems}
	kind, version := fieldText(node, "kind"), fieldText(node, "apiVersion")
	switch {
	case kind == "List" && version == "v1", kind == "ClusterPolicyList" && strings.HasPrefix(version, "kyverno.io/"):
		var all []clusterPolicy
		v.object(fields{"apiVersion": nil, "kind": nil, "metadata": nil, "items": func(v value) {
			v.list(func(v value) { all = append(all, t.policiesIn(v.node, v.field)...) })
		}})
		return all
	case kind != "ClusterPolicy" || version != "kyverno.io/v1" && version != "kyverno.io/v2beta1":
		v.fail("is %s, and no ClusterPolicy of kyverno.io/v1; give the ClusterPolicies in a file of their own", quoted(strings.TrimSpace(version+" "+kind)))
		return nil
	}
	return []clusterPolicy{t.readPolicy(v)}
}

func fieldText(node *yaml.Node, name string) string {
	if found := child(node, name); found != nil {
		return found.Value
	}
	return ""
}
