package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

const sbom = "sbom/example"

var subject = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("subject"), Size: 7}

// listed is a descriptor of a list, named by a letter.
func listed(name, artifactType string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1,"artifactType":%q}`, ocispec.MediaTypeImageManifest, digest.FromString(name), artifactType)
}

func indexOf(descriptors ...string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, ocispec.MediaTypeImageIndex, strings.Join(descriptors, ","))
}

// page is an answer to a request for a list.
type page struct {
	status      int    // 0: 200
	contentType string // "": an index; "-": none
	header      http.Header
	body        string
}

func (p page) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	switch p.contentType {
	case "":
	case "-":
		w.Header()["Content-Type"] = nil
	default:
		w.Header().Set("Content-Type", p.contentType)
	}
	for key, values := range p.header {
		w.Header()[http.CanonicalHeaderKey(key)] = values
	}
	if p.status != 0 {
		w.WriteHeader(p.status)
	}
	fmt.Fprint(w, p.body)
}

// next is the header of a page that has another one.
func next(links ...string) http.Header { return http.Header{"Link": links} }

// vouched is the fallback tag's index, with the digest that says that it was pushed so.
func vouched(body string) page {
	return page{header: http.Header{"Docker-Content-Digest": {digest.FromString(body).String()}}, body: body}
}

// TestReferrersListsByAPIAndTag checks that a list is complete or an error. api has the answers of the referrers API by
// their query, "" for the first page, and tags those of the fallback tag; what is missing answers 404.
func TestReferrersListsByAPIAndTag(t *testing.T) {
	a, b, other := listed("a", sbom), listed("b", sbom), listed("c", "scan/example")
	second := map[string]page{"": {header: next(`<?page=2>; rel="next"`), body: indexOf(a)}, "page=2": {body: indexOf(b)}}
	twoPages := func(link string) map[string]page {
		return map[string]page{"": {header: next(link), body: indexOf(a)}, "page=2": {body: indexOf(b)}}
	}
	ending := func(last page) map[string]page {
		return map[string]page{"": second[""], "page=2": last}
	}
	path := "/v2/acme/app/referrers/" + subject.Digest.String()
	tests := map[string]struct {
		api       map[string]page
		tag       *page
		want      string // the letters of what is found
		code      reason.Code
		unusable  bool
		truncated bool
		asked     int // requests; 0 for any number
	}{
		"none":                      {api: map[string]page{"": {body: indexOf()}}, asked: 1},
		"none, as null":             {api: map[string]page{"": {body: strings.Replace(indexOf(), "[]", "null", 1)}}, asked: 1},
		"one page":                  {api: map[string]page{"": {body: indexOf(a, b)}}, want: "ab", asked: 1},
		"a registry without filter": {api: map[string]page{"": {body: indexOf(a, other, b)}}, want: "ab"},
		"one that claims a filter":  {api: map[string]page{"": {header: http.Header{"OCI-Filters-Applied": {"artifactType"}}, body: indexOf(a, other)}}, want: "a"},
		"one without artifact type": {api: map[string]page{"": {body: indexOf(strings.Replace(a, `,"artifactType":"`+sbom+`"`, "", 1))}}, want: "a"},
		"one twice":                 {api: map[string]page{"": {body: indexOf(a, a, b)}}, want: "ab"},
		"one as two types":          {api: map[string]page{"": {body: indexOf(listed("a", "other/type"), a)}}, want: "a"},
		"the API is the truth":      {api: map[string]page{"": {body: indexOf(a)}}, tag: &page{body: indexOf(b)}, want: "a", asked: 1},
		"also where it has none":    {api: map[string]page{"": {body: indexOf()}}, tag: &page{body: indexOf(b)}, asked: 1},
		"a digest by SHA-512":       {api: map[string]page{"": {body: indexOf(strings.Replace(a, digest.FromString("a").String(), digest.SHA512.FromString("a").String(), 1))}}, want: "A"},

		"two pages":                              {api: twoPages(`<?page=2>; rel="next"`), want: "ab", asked: 2},
		"a link by its path":                     {api: twoPages(`<` + path + `?page=2>; rel="next"`), want: "ab"},
		"a link by its whole address":            {api: twoPages(`<http://HOST` + path + `?page=2>; rel="next"`), want: "ab"},
		"a relation without quotes":              {api: twoPages(`<?page=2>; rel=next`), want: "ab"},
		"a relation in capitals":                 {api: twoPages(`<?page=2>; REL="NEXT"`), want: "ab"},
		"a relation among others":                {api: twoPages(`<?page=2>; rel="prefetch next"`), want: "ab"},
		"white space around everything":          {api: twoPages(`  <?page=2>  ;  rel = "next" ; title="a, b; c"`), want: "ab"},
		"another parameter before":               {api: twoPages(`<?page=2>; title="rel=\"prev\""; rel=next`), want: "ab"},
		"the first relation counts":              {api: twoPages(`<?page=2>; rel=next; rel=prev`), want: "ab"},
		"no next page but the previous":          {api: twoPages(`<?page=2>; rel="prev"`), want: "a", asked: 1},
		"a relation that only begins so":         {api: twoPages(`<?page=2>; rel="nextish"`), want: "a", asked: 1},
		"the next page in another parameter":     {api: twoPages(`<?page=2>; title="next"; rel=last`), want: "a", asked: 1},
		"a second link in the field":             {api: twoPages(`<?page=9>; rel=last, <?page=2>; rel=next`), want: "ab"},
		"a link with a comma before":             {api: twoPages(`<?page=9,8>; rel=last; title="x, <y>; rel=next", <?page=2>; rel=next`), want: "ab"},
		"a second Link field":                    {api: map[string]page{"": {header: next(`<?page=9>; rel=last`, `<?page=2>; rel=next`), body: indexOf(a)}, "page=2": {body: indexOf(b)}}, want: "ab"},
		"the same link twice":                    {api: map[string]page{"": {header: next(`<?page=2>; rel=next`, `<`+path+`?page=2>; rel=next`), body: indexOf(a)}, "page=2": {body: indexOf(b)}}, want: "ab"},
		"two next pages":                         {api: map[string]page{"": {header: next(`<?page=2>; rel=next`, `<?page=3>; rel=next`), body: indexOf(a)}, "page=2": {body: indexOf(b)}}, code: reason.RegistryInvalid},
		"a link that cannot be read":             {api: twoPages(`?page=2; rel=next`), code: reason.RegistryInvalid},
		"a link that does not end":               {api: twoPages(`<?page=2; rel=next`), code: reason.RegistryInvalid},
		"a quote inside of a value":              {api: twoPages(`<?page=2>; rel=prev"; rel="last next"`), code: reason.RegistryInvalid},
		"a quote that does not end":              {api: twoPages(`<?page=2>; rel="next`), code: reason.RegistryInvalid},
		"a link to another host":                 {api: twoPages(`<http://registry.invalid/?page=2>; rel=next`), code: reason.RegistryInvalid, asked: 1},
		"a link to another port":                 {api: twoPages(`<http://127.0.0.1:1/?page=2>; rel=next`), code: reason.RegistryInvalid, asked: 1},
		"a link to another scheme":               {api: twoPages(`<https://HOST` + path + `?page=2>; rel=next`), code: reason.RegistryInvalid, asked: 1},
		"a link to another host without scheme":  {api: twoPages(`<//registry.invalid/?page=2>; rel=next`), code: reason.RegistryInvalid, asked: 1},
		"a link to the page itself":              {api: twoPages(`<?artifactType=sbom%2Fexample>; rel=next`), code: reason.RegistryInvalid, asked: 1},
		"an empty link":                          {api: twoPages(`<>; rel=next`), code: reason.RegistryInvalid, asked: 1},
		"pages in a circle":                      {api: map[string]page{"": second[""], "page=2": {header: next(`<?page=3>; rel=next`), body: indexOf(b)}, "page=3": {header: next(`<?page=2>; rel=next`), body: indexOf(b)}}, code: reason.RegistryInvalid, asked: 3},
		"an empty page between":                  {api: map[string]page{"": second[""], "page=2": {header: next(`<?page=3>; rel=next`), body: indexOf()}, "page=3": {body: indexOf(b)}}, want: "ab"},
		"too many of the type":                   {api: map[string]page{"": {body: indexOf(a, b, listed("d", sbom), listed("e", sbom))}}, want: "abd", truncated: true},
		"too many on the second page":            {api: ending(page{body: indexOf(b, listed("d", sbom), listed("e", sbom))}), want: "abd", truncated: true},
		"a second page that is not there":        {api: map[string]page{"": second[""]}, tag: &page{body: indexOf(a)}, code: reason.RegistryInvalid},
		"a second page that is HTML":             {api: ending(page{contentType: "text/html", body: "<html>"}), code: reason.RegistryInvalid},
		"a second page of JSON":                  {api: ending(page{contentType: "application/json", body: indexOf(b)}), code: reason.RegistryInvalid},
		"a second page without type":             {api: ending(page{contentType: "-", body: indexOf(b)}), code: reason.RegistryInvalid},
		"a second page that is empty":            {api: ending(page{}), code: reason.RegistryInvalid},
		"a second page without a list":           {api: ending(page{body: `{"schemaVersion":2}`}), code: reason.RegistryInvalid},
		"a second page that is refused":          {api: ending(page{status: 403}), code: reason.RegistryUnauthorized},
		"a second page that is gone":             {api: ending(page{status: 410}), code: reason.RegistryInvalid},
		"a second page that is a bad request":    {api: ending(page{status: 400}), code: reason.RegistryInvalid},
		"a second page of no content":            {api: ending(page{status: 204}), code: reason.RegistryUnavailable},
		"a second page that is partial":          {api: ending(page{status: 206, body: indexOf(b)}), code: reason.RegistryUnavailable},
		"a second page with something behind it": {api: ending(page{body: indexOf(b) + indexOf()}), code: reason.RegistryInvalid},

		"a type with parameters":      {api: map[string]page{"": {contentType: ocispec.MediaTypeImageIndex + " ; charset=utf-8", body: indexOf(a)}}, want: "a"},
		"a type in capitals":          {api: map[string]page{"": {contentType: strings.ToUpper(ocispec.MediaTypeImageIndex), body: indexOf(a)}}, want: "a"},
		"a type with a bad parameter": {api: map[string]page{"": {contentType: ocispec.MediaTypeImageIndex + `; charset="`, body: indexOf(a)}}, want: "a"},
		"HTML, which is no list":      {api: map[string]page{"": {contentType: "text/html", body: "<html>"}}, tag: &page{body: indexOf(a)}, code: reason.RegistryInvalid},
		"a Docker list":               {api: map[string]page{"": {contentType: mediaTypeDockerList, body: indexOf(a)}}, code: reason.RegistryInvalid},
		"a list and layers":           {api: map[string]page{"": {body: strings.Replace(indexOf(a), "{", `{"layers":[],`, 1)}}, code: reason.RegistryInvalid},
		"two lists":                   {api: map[string]page{"": {body: strings.Replace(indexOf(a), "{", `{"manifests":[],`, 1)}}, code: reason.RegistryInvalid},
		"two lists but for a letter":  {api: map[string]page{"": {body: strings.Replace(indexOf(a), "{", `{"Manifests":[],`, 1)}}, code: reason.RegistryInvalid},
		"a list but for a letter":     {api: map[string]page{"": {body: strings.Replace(indexOf(a), "manifests", "Manifests", 1)}}, code: reason.RegistryInvalid},
		"another type inside":         {api: map[string]page{"": {body: strings.Replace(indexOf(a), ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, 1)}}, code: reason.RegistryInvalid},
		"a digest that is a path":     {api: map[string]page{"": {body: indexOf(strings.Replace(a, "sha256:", "../", 1))}}, code: reason.RegistryInvalid},
		"a digest by MD5":             {api: map[string]page{"": {body: indexOf(strings.Replace(a, digest.FromString("a").String(), "md5:d41d8cd98f00b204e9800998ecf8427e", 1))}}, code: reason.RegistryInvalid},

		"no API, and no tag":                 {asked: 3},
		"no API":                             {tag: &page{body: indexOf(a, other)}, want: "a", asked: 3},
		"an API that fails":                  {api: map[string]page{"": {status: 451}}, tag: &page{body: indexOf(a)}, code: reason.RegistryUnavailable},
		"an API that is refused":             {api: map[string]page{"": {status: 403}}, tag: &page{body: indexOf(a)}, code: reason.RegistryUnauthorized},
		"a tag that fails":                   {tag: &page{status: 451}, code: reason.RegistryUnavailable},
		"a tag that is refused":              {tag: &page{status: 403}, code: reason.RegistryUnauthorized},
		"a tag that is HTML":                 {tag: &page{contentType: "text/html", body: "<html>"}, code: reason.RegistryInvalid},
		"a tag with a wrong digest":          {tag: &page{header: http.Header{"Docker-Content-Digest": {digest.FromString("x").String()}}, body: indexOf(a)}, code: reason.RegistryInvalid},
		"a tag that was pushed as no index":  {tag: new(vouched(`{"layers":[]}`)), code: reason.RegistryInvalid, unusable: true},
		"a tag that was pushed as no JSON":   {tag: new(vouched(`no`)), code: reason.RegistryInvalid, unusable: true},
		"a tag with a digest that is a path": {tag: new(vouched(indexOf(strings.Replace(a, "sha256:", "../", 1)))), code: reason.RegistryInvalid, unusable: true},
		"a tag that is too long":             {tag: &page{body: indexOf(a) + strings.Repeat(" ", maxManifest)}, truncated: true},
		"a tag with too many":                {tag: &page{body: indexOf(a, b, listed("d", sbom), listed("e", sbom))}, want: "abd", truncated: true},
	}
	for _, status := range []int{400, 404, 405, 406, 410, 501} {
		tests[fmt.Sprintf("no API, said by %d and nonsense", status)] = struct {
			api       map[string]page
			tag       *page
			want      string
			code      reason.Code
			unusable  bool
			truncated bool
			asked     int
		}{api: map[string]page{"": {status: status, contentType: "text/html", body: "<html>{"}}, tag: &page{body: indexOf(a)}, want: "a"}
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			var asked atomic.Int32
			repository, _ := served(t, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				query := r.URL.Query()
				query.Del("artifactType")
				answer, ok := test.api[query.Encode()]
				switch {
				case r.URL.Path == path && ok:
					for i, link := range answer.header["Link"] {
						answer.header["Link"][i] = strings.Replace(link, "HOST", r.Host, 1)
					}
					answer.write(w)
				case strings.HasPrefix(r.URL.Path, "/v2/acme/app/manifests/sha256-") && test.tag != nil:
					test.tag.write(w)
				default:
					http.NotFound(w, r)
				}
			}, Options{})
			repository.client.options.MaxReferrers = 3
			found, truncated, err := repository.Referrers(t.Context(), subject.Digest, sbom)
			var failure *Error
			if errors.As(err, &failure); err != nil && (failure == nil || failure.Code != test.code) || err == nil && test.code != "" {
				t.Errorf("%v; want %q", err, test.code)
			}
			if errors.Is(err, ErrUnusable) != test.unusable {
				t.Errorf("unusable: %t", !test.unusable)
			}
			if got := letters(found); got != test.want || truncated != test.truncated {
				t.Errorf("found %q, truncated %t; want %q, %t", got, truncated, test.want, test.truncated)
			}
			if n := int(asked.Load()); test.asked != 0 && n != test.asked {
				t.Errorf("%d requests; want %d", n, test.asked)
			}
		})
	}
}

// letters names what was found, in capitals where its digest is by SHA-512.
func letters(found []ocispec.Descriptor) (all string) {
	for _, d := range found {
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			switch d.Digest {
			case digest.FromString(name):
				all += name
			case digest.SHA512.FromString(name):
				all += strings.ToUpper(name)
			}
		}
	}
	return all
}

// TestReferrersDistrustOneWrongAnswer has the referrers API answer 404 once, beside a stale fallback tag.
func TestReferrersDistrustOneWrongAnswer(t *testing.T) {
	a, b := listed("a", sbom), listed("b", sbom)
	var wrong, asked atomic.Int32
	repository, _ := served(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch isTag := strings.Contains(r.URL.Path, "/manifests/"); {
		case isTag:
			page{body: indexOf(a)}.write(w)
		case wrong.Add(-1) >= 0:
			http.NotFound(w, r)
		default:
			page{body: indexOf(a, b)}.write(w)
		}
	}, Options{})
	for i, step := range []struct {
		wrong int32
		want  string
		asked int32
	}{
		{1, "ab", 3}, {0, "ab", 1}, {1, "ab", 3}, {0, "ab", 1},
		{2, "a", 3}, // nobody can tell this from a registry without the API
		{1, "a", 2}, {0, "ab", 1},
		{1, "ab", 3}, // that there is none was forgotten when there was one
	} {
		wrong.Store(step.wrong)
		asked.Store(0)
		found, _, err := repository.Referrers(t.Context(), subject.Digest, sbom)
		if err != nil || letters(found) != step.want || asked.Load() != step.asked {
			t.Errorf("step %d: %q after %d requests, %v; want %q after %d", i, letters(found), asked.Load(), err, step.want, step.asked)
		}
	}
}

// TestFetchDistrustsOneNotFound has the referrers API answer 404 once, where there is no fallback tag: a signed image
// must not look unsigned.
func TestFetchDistrustsOneNotFound(t *testing.T) {
	var wrong atomic.Int32
	repository, _ := served(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") || wrong.Add(-1) >= 0 {
			http.NotFound(w, r)
			return
		}
		page{body: indexOf(listed("a", sbom))}.write(w)
	}, Options{})
	for range 3 {
		wrong.Store(1)
		if found, _, err := repository.Referrers(t.Context(), subject.Digest, sbom); err != nil || letters(found) != "a" {
			t.Errorf("found %q, %v", letters(found), err)
		}
	}
}

// TestReferrersAreBounded whatever a registry lists beside the artifact type, and however it links its pages.
func TestReferrersAreBounded(t *testing.T) {
	const perPage = 10_000
	tests := map[string]struct {
		link      func(page int) string
		truncated bool
		code      reason.Code
		atMost    int32 // requests
	}{
		"pages of other types":  {link: strconv.Itoa, truncated: true, atMost: maxElements/perPage + 1},
		"pages with long names": {link: func(page int) string { return strconv.Itoa(page) + strings.Repeat("x", 100<<10) }, code: reason.RegistryInvalid, atMost: 1},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			var asked atomic.Int32
			repository, _ := served(t, func(w http.ResponseWriter, _ *http.Request) {
				n := int(asked.Add(1))
				others := make([]string, perPage)
				for i := range others {
					others[i] = fmt.Sprintf(`{"digest":"sha256:%064x","artifactType":"x"}`, n*perPage+i)
				}
				page{header: next(`<?page=` + test.link(n) + `>; rel=next`), body: indexOf(others...)}.write(w)
			}, Options{})
			found, truncated, err := repository.Referrers(t.Context(), subject.Digest, sbom)
			var failure *Error
			if errors.As(err, &failure); failure == nil != (test.code == "") || failure != nil && failure.Code != test.code {
				t.Errorf("%.200v; want %q", err, test.code)
			}
			if len(found) > 0 || truncated != test.truncated || asked.Load() > test.atMost {
				t.Errorf("found %d, truncated %t after %d requests", len(found), truncated, asked.Load())
			}
		})
	}
}

// TestReferrersReadTheFallbackTag of the name that the distribution specification gives it.
func TestReferrersReadTheFallbackTag(t *testing.T) {
	for algorithm, want := range map[digest.Algorithm]string{
		digest.SHA256: "sha256-" + digest.SHA256.FromString("x").Encoded(),
		digest.SHA512: "sha512-" + digest.SHA512.FromString("x").Encoded()[:64],
	} {
		var asked []string
		repository, _ := served(t, func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.URL.Path)
			http.NotFound(w, r)
		}, Options{})
		if _, _, err := repository.Referrers(t.Context(), algorithm.FromString("x"), sbom); err != nil {
			t.Fatal(err)
		}
		if got := asked[1]; got != "/v2/acme/app/manifests/"+want {
			t.Errorf("%s; want %s", got, want)
		}
	}
}

// FuzzLinks finds in any Link field either an error or only targets that stand in it.
func FuzzLinks(f *testing.F) {
	for _, seed := range []string{`<?page=2>; rel="next"`, `<a>;rel=next,<b>`, `<>;;`, `<a>; rel="\"`, `<a>; rel = "next prev" ; title="a, <b>; rel=next"`, `,,<a`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, field string) {
		targets, err := nextLinks([]string{field})
		for _, target := range targets {
			if !strings.Contains(field, "<"+target+">") || err != nil {
				t.Errorf("%q of %q, %v", target, field, err)
			}
		}
		if again, _ := nextLinks([]string{field}); !reflect.DeepEqual(targets, again) {
			t.Error("another answer the second time")
		}
	})
}

func TestSameOriginComparesSchemeHostAndPort(t *testing.T) {
	for other, want := range map[string]bool{
		"https://reg.example/x": true, "https://reg.example:443/x": true, "https://REG.example/x": true,
		"http://reg.example/x": false, "https://reg.example:80/x": false, "https://reg.example.evil/x": false,
		"https://user@reg.example/x": false, "https://reg.example.:443/x": false,
	} {
		at, err := url.Parse(other)
		if err != nil {
			t.Fatal(err)
		}
		if got := sameOrigin(at, &url.URL{Scheme: "https", Host: "reg.example"}); got != want {
			t.Errorf("%s: %t", other, got)
		}
	}
}
