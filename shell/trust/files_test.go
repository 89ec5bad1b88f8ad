package trust_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/samber/lo"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// TestOpenFilesReadsResources reads files as people write them.
func TestOpenFilesReadsResources(t *testing.T) {
	pem := []byte(bundle(t, time.Now().AddDate(1, 0, 0)))
	good, store := scenariotest.TrustPolicy("good", "strict", "ca:acme"), scenariotest.TrustStore("acme", pem)
	asJSON := func(text string) string {
		converted, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return string(converted)
	}
	tests := map[string]struct {
		files    map[string]string
		policies string // name or name!, where it cannot be used
		stores   string
		says     string // in the problem of the policy or store that cannot be used
	}{
		"a file for each":               {map[string]string{"p.yaml": good, "s.yml": store}, "good", "ca:acme", ""},
		"several documents in one file": {map[string]string{"all.yaml": good + "---\n" + store + "---\n"}, "good", "ca:acme", ""},
		"JSON":                          {map[string]string{"p.json": asJSON(good), "s.json": asJSON(store)}, "good", "ca:acme", ""},
		"a List":                        {map[string]string{"l.json": fmt.Sprintf(`{"apiVersion":"v1","kind":"List","items":[%s,%s]}`, asJSON(good), asJSON(store))}, "good", "ca:acme", ""},
		"other kinds and other files":   {map[string]string{"c.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", "README.md": "hello", "p.yaml": good}, "good", "", ""},
		"a document that is not YAML beside good": {map[string]string{"broken.yaml": "{ not: [yaml", "p.yaml": good}, "good", "", ""},
		"a broken document between good ones":     {map[string]string{"all.yaml": good + "---\nx: [\n---\n" + store}, "good", "ca:acme", ""},
		"an unknown field":                        {map[string]string{"p.yaml": strings.Replace(good, "trustPolicyName", "trustPolicyname: x\n  trustPolicyName", 1)}, "good!", "", "trustPolicyname"},
		"a field of the wrong type":               {map[string]string{"p.yaml": strings.Replace(good, `registryScopes: ["*"]`, `registryScopes: "*"`, 1)}, "good!", "", "registryScopes"},
		"a level that does not exist":             {map[string]string{"p.yaml": strings.Replace(good, "strict", "lax", 1)}, "good!", "", "lax"},
		"a doubled key":                           {map[string]string{"p.yaml": good + "  version: \"1.0\"\n"}, "", "", ""},
		"one name in two files":                   {map[string]string{"a.yaml": good, "b.yaml": good}, "good!", "", "all claim the name"},
		"a private key for a bundle":              {map[string]string{"s.yaml": scenariotest.TrustStore("acme", []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"))}, "", "ca:acme!", "only certificates belong there"},
		"no certificate in a bundle":              {map[string]string{"s.yaml": scenariotest.TrustStore("acme", []byte("certificates"))}, "", "ca:acme!", "is not PEM"},
		"broken certificates only":                {map[string]string{"s.yaml": scenariotest.TrustStore("acme", []byte(brokenBlock+brokenBlock))}, "", "ca:acme!", "certificate 2: "},
		"a block that does not end":               {map[string]string{"s.yaml": scenariotest.TrustStore("acme", pem[:len(pem)-20])}, "", "ca:acme!", "1 that begin as PEM blocks"},
		"text behind the certificates":            {map[string]string{"s.yaml": scenariotest.TrustStore("acme", append(slices.Clone(pem), "trailing"...))}, "", "ca:acme", ""},
		"a file with a byte order mark":           {map[string]string{"p.yaml": "\ufeff" + good, "s.json": "\ufeff" + asJSON(store)}, "good", "ca:acme", ""},
		"one repository in two statements":        {map[string]string{"p.yaml": withScopes(good, "docker.io/nginx", "docker.io/library/nginx")}, "good!", "", "one repository belongs to one statement"},
		"one repository twice in a statement":     {map[string]string{"p.yaml": strings.Replace(good, `["*"]`, `["reg.example/app", "REG.EXAMPLE:443/app"]`, 1)}, "good!", "", "one repository belongs to one statement"},
		"a scope without a registry":              {map[string]string{"p.yaml": strings.Replace(good, `["*"]`, `["library/nginx"]`, 1)}, "good!", "", "write it in full"},
		"a scope with a tag":                      {map[string]string{"p.yaml": strings.Replace(good, `["*"]`, `["reg.example/app:v1"]`, 1)}, "good!", "", "leave out its tag"},
		"a scope with a wildcard":                 {map[string]string{"p.yaml": strings.Replace(good, `["*"]`, `["reg.example/*"]`, 1)}, "good!", "", "has a wildcard"},
		"a scope with capitals":                   {map[string]string{"p.yaml": strings.Replace(good, `["*"]`, `["reg.example/App"]`, 1)}, "good!", "", "matches no image"},
		"a scope with a scheme":                   {map[string]string{"p.yaml": strings.Replace(good, `["*"]`, `["https://reg.example/app"]`, 1)}, "good!", "", "matches no image"},
		"all repositories beside one":             {map[string]string{"p.yaml": strings.Replace(good, `["*"]`, `["*", "reg.example/app"]`, 1)}, "good!", "", "stands alone"},
		"no scope":                                {map[string]string{"p.yaml": strings.Replace(good, `["*"]`, `[]`, 1)}, "good!", "", "has no registryScopes"},
		"a scope that is an IPv6 address":         {map[string]string{"p.yaml": strings.Replace(good, `["*"]`, `["[::1]:5000/app"]`, 1)}, "good", "", ""},
		"a store's name that is a path":           {map[string]string{"s.yaml": strings.Replace(store, "trustStoreName: acme", "trustStoreName: ../acme", 1)}, "", "ca:../acme!", "letters, digits"},
		"an empty directory":                      {nil, "", "", ""},
		"a file over the bound":                   {map[string]string{"p.yaml": good, "big.yaml": strings.Repeat("# comment\n", 500_000)}, "good", "", ""},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range test.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			files, err := shelltrust.OpenFiles(dir, slog.New(slog.DiscardHandler), func() {})
			if err != nil {
				t.Fatal(err)
			}
			snapshot, _ := files.Snapshot()
			policies := strings.Join(lo.MapToSlice(snapshot.Policies, func(name string, p trust.Policy) string { return marked(t, name, p.Problem, test.says) }), " ")
			stores := strings.Join(lo.MapToSlice(snapshot.Stores, func(ref trust.StoreRef, s trust.Store) string {
				return marked(t, ref.String(), s.Problem, test.says)
			}), " ")
			if policies != test.policies || stores != test.stores {
				t.Errorf("policies %q, stores %q; want %q, %q", policies, stores, test.policies, test.stores)
			}
		})
	}
}

// brokenBlock is PEM, but no certificate.
const brokenBlock = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

// withScopes gives a policy's only statement a scope, and a second statement another.
func withScopes(policy, first, second string) string {
	head, statement, _ := strings.Cut(strings.Replace(policy, `"*"`, `"`+first+`"`, 1), "- ")
	return head + "- " + statement + "  - " + strings.Replace(strings.Replace(statement, first, second, 1), "name: ", "name: second-", 1)
}

// TestCompileReadsBundles of every form, and uses the parts that can be used.
func TestCompileReadsBundles(t *testing.T) {
	one, two := bundle(t, time.Now().AddDate(1, 0, 0)), bundle(t, time.Now().AddDate(2, 0, 0))
	tests := map[string]struct {
		text   string
		want   int    // certificates
		unused string // in what is told; "" where all is used
	}{
		"one after the other":            {one + two, 2, ""},
		"text around and between":        {"# Acme\n" + one + "subject=CN = Acme\n" + two + "\nthe end", 2, ""},
		"line ends of Windows":           {strings.ReplaceAll(one+two, "\n", "\r\n"), 2, ""},
		"a byte order mark":              {"\ufeff" + one + two, 2, ""},
		"files with marks, put together": {"\ufeff" + one + "\ufeff" + two, 2, ""},
		"a broken certificate between":   {one + brokenBlock + two, 2, "certificate 2: "},
		"a block of another kind":        {one + strings.ReplaceAll(brokenBlock, "CERTIFICATE", "PRIVATE KEY") + two, 2, "certificate 2: is a PRIVATE KEY"},
		"a block that is no base64":      {one + strings.Replace(brokenBlock, "AAAA", "!!!!", 1) + two, 2, "1 that begin as PEM blocks"},
		"a block that is cut off":        {one + two[:len(two)-30], 1, "1 that begin as PEM blocks"},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			resource := shelltrust.StoreResource{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: shelltrust.StoreSpec{TrustStoreName: "acme", Type: "ca", CABundle: tt.text}}
			snapshot, problems := shelltrust.Compile(nil, []shelltrust.StoreResource{resource})
			store := snapshot.Stores[trust.StoreRef{Type: "ca", Name: "acme"}]
			if store.Problem != "" || len(store.Certificates) != tt.want {
				t.Fatalf("%d certificates, %s", len(store.Certificates), store.Problem)
			}
			ready := meta.FindStatusCondition(shelltrust.Assess(nil, []shelltrust.StoreResource{resource}, time.Now()).Stores["r"].Conditions, shelltrust.ConditionReady)
			if tt.unused == "" {
				if len(problems) > 0 || strings.Contains(ready.Message, "not used") {
					t.Errorf("told of %+v, status %s", problems, ready.Message)
				}
				return
			}
			if len(problems) != 1 || !problems[0].Usable || !strings.Contains(problems[0].Reason, tt.unused) {
				t.Errorf("told of %+v", problems)
			}
			if ready.Status != metav1.ConditionTrue || !strings.Contains(ready.Message, tt.unused) {
				t.Errorf("the status says %s, %s", ready.Status, ready.Message)
			}
		})
	}
}

// TestCompileTakesManyScopes compiles and plans with as many scopes as a resource may hold, at a few allocations each.
func TestCompileTakesManyScopes(t *testing.T) {
	resource := func(statements int) shelltrust.PolicyResource {
		spec := shelltrust.PolicySpec{Version: "1.0", TrustPolicyName: "many"}
		for i := range statements {
			statement := shelltrust.PolicyStatement{Name: fmt.Sprint("s", i), SignatureVerification: shelltrust.SignatureVerification{Level: "skip"}}
			for j := range 256 {
				statement.RegistryScopes = append(statement.RegistryScopes, fmt.Sprintf("reg.example/team-%d/app-%d", i, j))
			}
			spec.TrustPolicies = append(spec.TrustPolicies, statement)
		}
		return shelltrust.PolicyResource{Spec: spec}
	}
	few, many := []shelltrust.PolicyResource{resource(32)}, []shelltrust.PolicyResource{resource(128)}
	allocations := func(policies []shelltrust.PolicyResource) float64 {
		return testing.AllocsPerRun(1, func() { shelltrust.Compile(policies, nil) })
	}
	if a, b := allocations(few), allocations(many); b > 5*a || b > 40*128*256 { // notation-go compiles two expressions for each
		t.Errorf("%.0f allocations for 32 statements of 256 scopes, and %.0f for 128", a, b)
	}
	snapshot, problems := shelltrust.Compile(many, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	request := core.Request{TrustPolicy: "many"}
	for i := range 1000 {
		ref := image.Reference{Registry: "reg.example", Repository: fmt.Sprintf("team-127/app-%d", i), Tag: "v1"}
		request.Images = append(request.Images, core.Image{Pointer: image.Pointer("").Index(i), Ref: ref})
	}
	if plan, err := core.NewPlan(request, snapshot, ""); err != nil || len(plan.Tasks) != 256 {
		t.Errorf("planned %d tasks: %v", len(plan.Tasks), err)
	}
}

// marked is a name, with ! behind one that cannot be used; the problem must say why.
func marked(t *testing.T, name, problem, says string) string {
	t.Helper()
	if problem == "" {
		return name
	}
	if says == "" || !strings.Contains(problem, says) {
		t.Errorf("the problem of %s is %q; want %q", name, problem, says)
	}
	return name + "!"
}

// TestWatchFollowsConfigMapVolumes, in which links lead to a directory that is replaced as a whole.
func TestWatchFollowsConfigMapVolumes(t *testing.T) {
	dir := t.TempDir()
	for version, name := range map[string]string{"v1": "before", "v2": "after"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, version, "p.yaml"), []byte(scenariotest.TrustPolicy(name, "strict", "ca:acme")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, "new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("v1", "..data")
	link("..data/p.yaml", "p.yaml")
	synctest.Test(t, func(t *testing.T) {
		changed := make(chan struct{}, 10)
		files, err := shelltrust.OpenFiles(dir, slog.New(slog.DiscardHandler), func() { changed <- struct{}{} })
		if err != nil {
			t.Fatal(err)
		}
		go files.Watch(t.Context(), time.Second)
		loads := func(names ...string) {
			t.Helper()
			select {
			case <-changed:
			case <-time.After(time.Minute):
				t.Fatal("the change was not seen")
			}
			snapshot, _ := files.Snapshot()
			if got := lo.Keys(snapshot.Policies); fmt.Sprint(got) != fmt.Sprint(names) {
				t.Errorf("policies %q; want %q", got, names)
			}
		}
		loads("before")
		link("v2", "..data")
		loads("after")
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		loads() // a deleted directory takes its trust away
	})
}

func TestOpenFilesFailsWithoutADirectory(t *testing.T) {
	if _, err := shelltrust.OpenFiles(filepath.Join(t.TempDir(), "absent"), slog.New(slog.DiscardHandler), func() {}); err == nil {
		t.Error("a directory that is not there was opened")
	}
}
