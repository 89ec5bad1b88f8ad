package core_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// imageFields are those of a container that can be understood, for bodies that are wrong elsewhere.
const imageFields = `"reference":"ghcr.io/acme/app:v1","jsonPointer":"/spec/containers/0/image"`

// Bodies that are right but for a part.
func withImage(fields string) string { return `{"images":{"containers":{"web":{` + fields + `}}}}` }
func withField(field string) string {
	return `{"images":{"containers":{"web":{` + imageFields + `}}},` + field + `}`
}
func withPatterns(patterns string) string {
	return withField(`"imageReferences":["` + patterns + `"]`)
}
func withType(fields string) string {
	return withField(`"attestations":[{"imageReference":"*","type":[{` + fields + `}]}]`)
}
func withCondition(fields string) string {
	return withType(`"name":"sbom","conditions":{"all":[{` + fields + `}]}`)
}
func withPod(spec string) string { return `{"object":{"kind":"Pod","spec":{` + spec + `}}}` }

// manyEntries are n entries of a group.
func manyEntries(n int) string {
	var entries []string
	for i := range n {
		entries = append(entries, fmt.Sprintf(`"c%d":{"reference":"a","jsonPointer":"/%d"}`, i, i))
	}
	return strings.Join(entries, ",")
}

const conditionField = `"key":"{{ a }}","operator":"Equals","value":1`

// TestParseRequestRefuses demands of each wrong body a refusal that names the field.
func TestParseRequestRefuses(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	tests := map[string]struct{ body, field, text string }{
		"an empty body":              {"", "", "not a JSON object"},
		"null":                       {"null", "", "not a JSON object"},
		"a list":                     {"[]", "", "the body"},
		"a string":                   {`"images"`, "", "the body"},
		"a number":                   {"1", "", "the body"},
		"text":                       {"images: {}", "", "not a JSON object"},
		"an object that is cut off":  {`{"images":{}`, "", "not a JSON object"},
		"something after the object": {withField(`"insecure":true`) + "{}", "", "not a JSON object"},
		"bytes that are not UTF-8":   {withField("\"trustPolicy\":\"\xff\""), "", "UTF-8"},
		"lists 100,000 deep":         {withField(`"metadata":` + strings.Repeat("[", 100000) + strings.Repeat("]", 100000)), "", "depth"},
		"objects 100,000 deep":       {`{"object":` + strings.Repeat(`{"a":`, 100000) + "1" + strings.Repeat("}", 100000) + "}", "", "depth"},

		"very many values":                   {withField(`"metadata":[` + strings.Repeat(`{},`, 50_000) + `1]`), "", "over 100000 lists, objects and commas"},
		"very many values, encoded":          {`{"encodedObject":"` + base64.StdEncoding.EncodeToString([]byte(`{"a":[`+strings.Repeat(`1,`, 100_000)+`1]}`)) + `"}`, "", "over 100000 lists, objects and commas"},
		"lists too deep":                     {withField(`"metadata":` + strings.Repeat("[", 100) + strings.Repeat("]", 100)), "", "depth of 100"},
		"objects too deep":                   {withPod(`"containers":[{"image":"a"}],"x":` + strings.Repeat(`{"a":`, 98) + "1" + strings.Repeat("}", 98)), "", "depth of 100"},
		"a key that is too long":             {`{"object":{"` + strings.Repeat("k", 1025) + `":1}}`, "", "key of 1025 bytes"},
		"a trust policy of a very long name": {withField(`"trustPolicy":"` + strings.Repeat("n", 256) + `"`), "trustPolicy", "at most 255"},
		"a group of a very long name":        {`{"images":{"` + strings.Repeat("n", 256) + `":{"web":{` + imageFields + `}}}}`, "images", "over 255"},
		"a type of a very long name":         {withType(`"name":"` + strings.Repeat("n", 256) + `"`), "attestations[0].type[0].name", "at most 255"},
		"too many attestation types":         {withField(`"attestations":[{"imageReference":"*","type":[{"name":"a"}]},{"imageReference":"*","type":[` + strings.Repeat(`{"name":"a"},`, 99) + `{"name":"a"}]}]`), "attestations[1].type", "over 100"},
		"too many pod templates":             {`{"object":{"items":[` + strings.Repeat(`{"spec":{"containers":[]}},`, 1001) + `{}]}}`, "object", "over 1000 pod specs"},
		"a pod template under long keys":     {`{"object":{"` + strings.Repeat("k", 300) + `":{"` + strings.Repeat("k", 300) + `":{"spec":{"containers":[]}}}}}`, "object", "over 512 bytes"},

		"an unknown field":                      {withField(`"attestation":[]`), "attestation", "not a field"},
		"a field in other case":                 {withField(`"Attestations":[]`), "Attestations", "not a field"},
		"an unknown field of an image":          {withImage(imageFields + `,"tags":"v1"`), "images.containers.web.tags", "not a field"},
		"an unknown field of a rule":            {withField(`"attestations":[{"imageReference":"*","types":[]}]`), "attestations[0].types", "not a field"},
		"an unknown field of a type":            {withType(`"name":"sbom","condition":{}`), "attestations[0].type[0].condition", "not a field"},
		"an unknown field of conditions":        {withType(`"name":"sbom","conditions":{"al":[]}`), "attestations[0].type[0].conditions.al", "not a field"},
		"an unknown field of a condition":       {withCondition(conditionField + `,"mesage":"x"`), "attestations[0].type[0].conditions.all[0].mesage", "not a field"},
		"a doubled field":                       {withField(`"trustPolicy":"a","trustPolicy":"b"`), "trustPolicy", "twice"},
		"a doubled container":                   {`{"images":{"containers":{"web":{` + imageFields + `},"web":{` + imageFields + `}}}}`, "images.containers.web", "twice"},
		"a doubled field of an image":           {withImage(imageFields + `,"reference":"ghcr.io/acme/evil:v1"`), "images.containers.web.reference", "twice"},
		"a doubled field inside of the object":  {withPod(`"containers":[{"image":"a","image":"b"}]`), "object.spec.containers[0].image", "twice"},
		"a doubled list of conditions":          {withType(`"name":"sbom","conditions":{"all":[{` + conditionField + `}],"all":[{` + conditionField + `}]}`), "attestations[0].type[0].conditions.all", "twice"},
		"a doubled field under an escaped name": {withField(`"trustPolicy":"a","trust\u0050olicy":"b"`), "trustPolicy", "twice"},

		"images that are null":                  {`{"images":null}`, "images", "is null"},
		"an object that is null":                {`{"object":null}`, "object", "is null"},
		"images beside an object that is null":  {withField(`"object":null`), "object", "is null"},
		"a trust policy that is null":           {withField(`"trustPolicy":null`), "trustPolicy", "is null"},
		"a trust policy without a name":         {withField(`"trustPolicy":""`), "trustPolicy", "is empty"},
		"patterns that are null":                {withField(`"imageReferences":null`), "imageReferences", "is null"},
		"a demand for digests that is null":     {withField(`"requireDigest":null`), "requireDigest", "is null"},
		"a demand for digests that is text":     {withField(`"requireDigest":"true"`), "", "requireDigest: holds a JSON string"},
		"a demand for digests that is a number": {withField(`"requireDigest":1`), "", "requireDigest: holds a JSON number"},

		"an admission that is null":          {withField(`"admission":null`), "admission", "is null"},
		"an admission that is text":          {withField(`"admission":"CREATE"`), "", "admission: holds a JSON string"},
		"an admission with an unknown field": {withField(`"admission":{"user":"a"}`), "admission.user", "is not a field of the request"},
		"an operation that is none":          {withField(`"admission":{"operation":"create"}`), "admission.operation", `is "create"; write request.operation`},
		"an operation that is a list":        {withField(`"admission":{"operation":["CREATE"]}`), "", "admission.operation: holds a JSON array"},
		"a namespace that is a number":       {withField(`"admission":{"namespace":1}`), "", "admission.namespace: holds a JSON number"},

		"a pattern without a registry":                    {withPatterns("nginx"), "imageReferences[0]", `write "docker.io/nginx"`},
		"a pattern without a registry, with a tag":        {withPatterns("library/nginx:*"), "imageReferences[0]", `write "docker.io/library/nginx:*"`},
		"a pattern that is a URL":                         {withPatterns("https://reg.example/*"), "imageReferences[0]", `no scheme; write "reg.example/*"`},
		"a pattern that is a URL of a name without a dot": {withPatterns("https://reg/*"), "imageReferences[0]", "no scheme; write the registry"},
		"a pattern with space before it":                  {withPatterns(" reg.example/*"), "imageReferences[0]", `space around it; write "reg.example/*"`},
		"a pattern with a line break after it":            {withPatterns(`reg.example/*\n`), "imageReferences[0]", `space around it; write "reg.example/*"`},
		"a pattern with capitals":                         {withPatterns("ghcr.io/Acme/*"), "imageReferences[0]", "matches no image"},
		"a pattern with other letters":                    {withPatterns("ghcr.io/bücher/*"), "imageReferences[0]", "matches no image"},
		"a pattern of a host that is none":                {withPatterns("my_reg.example/*"), "imageReferences[0]", `"my_reg.example" is no host`},
		"a pattern with a port that is none":              {withPatterns("reg.example:65536/*"), "imageReferences[0]", "is no port"},
		"a pattern with half a digest":                    {withPatterns("ghcr.io/*@sha256:abc"), "imageReferences[0]", "matches no image"},
		"a pattern with a tag that is too long":           {withPatterns("ghcr.io/*:" + strings.Repeat("a", 129)), "imageReferences[0]", "matches no image"},
		"a second pattern that matches nothing":           {withPatterns(`*","nginx`), "imageReferences[1]", "matches no image"},
		"a pattern that is too long":                      {withPatterns("ghcr.io/" + strings.Repeat("a", 505)), "imageReferences[0]", "at most 512"},
		"too many patterns":                               {withPatterns(strings.Repeat(`*","`, 1000) + "*"), "imageReferences", "at most 1000"},
		"patterns with too many wildcards":                {withPatterns(strings.Repeat(strings.Repeat("*a", 200)+`","`, 100) + "*"), "imageReferences[1]", "too many wildcards"},
		"a rule whose pattern matches nothing":            {withField(`"attestations":[{"imageReference":"nginx","type":[{"name":"sbom"}]}]`), "attestations[0].imageReference", "matches no image"},

		"a trust policy that is a number":         {withField(`"trustPolicy":1`), "", "trustPolicy: holds a JSON number"},
		"a trust policy that is a list":           {withField(`"trustPolicy":["a"]`), "", "trustPolicy: holds a JSON array"},
		"images that are a list":                  {`{"images":[]}`, "", "images: holds a JSON array"},
		"images that are text":                    {`{"images":"{{ images }}"}`, "", "images: holds a JSON string"},
		"a group that is a list":                  {`{"images":{"containers":[]}}`, "", "images: holds a JSON array"},
		"a tag that is a number":                  {withImage(imageFields + `,"tag":1`), "", "images.tag: holds a JSON number"},
		"an object that is text":                  {`{"object":"{{ request.object }}"}`, "", "object: holds a JSON string"},
		"patterns that are text":                  {withField(`"imageReferences":"*"`), "", "imageReferences: holds a JSON string"},
		"attestations that are an object":         {withField(`"attestations":{}`), "", "attestations: holds a JSON object"},
		"types that are an object":                {withField(`"attestations":[{"imageReference":"*","type":{}}]`), "", "attestations.type: holds a JSON object"},
		"conditions that are a list":              {withType(`"name":"sbom","conditions":[{` + conditionField + `}]`), "", "conditions: holds a JSON array"},
		"a condition that is text":                {withType(`"name":"sbom","conditions":{"all":["{{ a }} == 1"]}`), "", "all: holds a JSON string"},
		"an operator that is a number":            {withCondition(`"key":"a","operator":1`), "", "operator: holds a JSON number"},
		"attestations that are null":              {withField(`"attestations":null`), "attestations", "null"},
		"a rule that is null":                     {withField(`"attestations":[null]`), "attestations[0]", "null"},
		"conditions that are null":                {withType(`"name":"sbom","conditions":null`), "attestations[0].type[0].conditions", "null"},
		"any that is null":                        {withType(`"name":"sbom","conditions":{"any":null}`), "attestations[0].type[0].conditions.any", "null"},
		"all that is null":                        {withType(`"name":"sbom","conditions":{"all":null}`), "attestations[0].type[0].conditions.all", "null"},
		"a select that is null":                   {withType(`"name":"sbom","select":null`), "attestations[0].type[0].select", "null"},
		"a group that is null":                    {`{"images":{"containers":null}}`, "images.containers", "null"},
		"a container that is null":                {`{"images":{"containers":{"web":null}}}`, "images.containers.web.reference", "empty"},
		"an encoded object that is an object":     {`{"encodedObject":{}}`, "", "encodedObject: holds a JSON object"},
		"an encoded object that is null":          {`{"encodedObject":null}`, "encodedObject", "is null"},
		"an encoded object that is empty":         {`{"encodedObject":""}`, "encodedObject", "base64"},
		"an encoded object that is JSON":          {`{"encodedObject":"{}"}`, "encodedObject", "base64"},
		"an encoded object that is a list":        {encoded(`[]`), "encodedObject", "base64"},
		"an encoded object that is not UTF-8":     {encoded("{\"a\":\"\xff\"}"), "encodedObject", "base64"},
		"an encoded object that is two":           {encoded(`{}{}`), "encodedObject", "not understood"},
		"an encoded object with a doubled field":  {encoded(`{"kind":"Pod","spec":{"containers":[{"image":"a","image":"b"}]}}`), "encodedObject", "duplicate"},
		"an encoded object that nests too deeply": {encoded(strings.Repeat(`{"a":`, 101) + "1" + strings.Repeat("}", 101)), "", "depth"},
		"an encoded object without images":        {encoded(`{"kind":"ConfigMap"}`), "object", "no pod spec"},
		"an encoded object beside an object":      {`{"object":{},"encodedObject":"e30="}`, "encodedObject", "beside images or object"},
		"an encoded object beside images":         {withField(`"encodedObject":"e30="`), "encodedObject", "beside images or object"},
		"neither images nor object":               {`{"trustPolicy":"a"}`, "images", "missing"},
		"images beside an object":                 {`{"images":{},"object":{}}`, "object", "beside images"},
		"a group without a name":                  {`{"images":{"":{"web":{` + imageFields + `}}}}`, "images", "empty name"},
		"a container without a name":              {`{"images":{"containers":{"":{` + imageFields + `}}}}`, "images.containers", "empty name"},
		"an empty pattern":                        {withField(`"imageReferences":["*",""]`), "imageReferences[1]", "empty"},
		"a null pattern":                          {withField(`"imageReferences":[null]`), "imageReferences[0]", "empty"},
		"a rule without a pattern":                {withField(`"attestations":[{"type":[{"name":"sbom"}]}]`), "attestations[0].imageReference", "empty"},
		"a rule without types":                    {withField(`"attestations":[{"imageReference":"*"}]`), "attestations[0].type", "empty"},
		"a rule with an empty list of types":      {withField(`"attestations":[{"imageReference":"*","type":[]}]`), "attestations[0].type", "empty"},
		"a type without a name":                   {withType(`"conditions":{"all":[{` + conditionField + `}]}`), "attestations[0].type[0].name", "empty"},
		"an unknown way to select":                {withType(`"name":"sbom","select":"newest"`), "attestations[0].type[0].select", "newest"},
		"any without conditions":                  {withType(`"name":"sbom","conditions":{"any":[]}`), "attestations[0].type[0].conditions.any", "empty"},
		"all without conditions":                  {withType(`"name":"sbom","conditions":{"all":[]}`), "attestations[0].type[0].conditions.all", "empty"},
		"an empty any beside a filled all":        {withType(`"name":"sbom","conditions":{"any":[],"all":[{` + conditionField + `}]}`), "attestations[0].type[0].conditions.any", "empty"},
		"an unknown operator":                     {withCondition(`"key":"a","operator":"Is"`), "attestations[0].type[0].conditions.all[0].operator", `"Is"`},
		"a condition without an operator":         {withCondition(`"key":"a"`), "attestations[0].type[0].conditions.all[0].operator", "Equals"},
		"a condition without a key":               {withCondition(`"operator":"Equals","value":1`), "attestations[0].type[0].conditions.all[0].key", "empty"},
		"a condition with an empty key":           {withCondition(`"key":"","operator":"Equals"`), "attestations[0].type[0].conditions.all[0].key", "empty"},
		"a condition with a null key":             {withCondition(`"key": null ,"operator":"Equals"`), "attestations[0].type[0].conditions.all[0].key", "empty"},
		"a wrong condition under any":             {withType(`"name":"sbom","conditions":{"any":[{` + conditionField + `},{"operator":"Equals"}]}`), "attestations[0].type[0].conditions.any[1].key", "empty"},
		"an image without a reference or a path":  {withImage(`"jsonPointer":"/a"`), "images.containers.web.reference", "empty"},
		"a reference that no runtime pulls":       {withImage(`"reference":"ghcr.io/Acme/app","jsonPointer":"/a"`), "images.containers.web.reference", "not an image reference"},
		"a registry that capitals alone make one": {withImage(`"reference":"ACME/app:v1","jsonPointer":"/a"`), "images.containers.web.reference", "capitals"},
		"parts that make no reference":            {withImage(`"path":"acme app","jsonPointer":"/a"`), "images.containers.web.path", "not an image reference"},
		"a path that is not the reference's":      {withImage(imageFields + `,"registry":"ghcr.io","path":"acme/other"`), "images.containers.web.path", "ghcr.io/acme/other"},
		"a registry that is not the reference's":  {withImage(imageFields + `,"registry":"quay.io","path":"acme/app"`), "images.containers.web.path", "quay.io/acme/app"},
		"a path that is none":                     {withImage(imageFields + `,"path":"A B"`), "images.containers.web.path", "not an image reference"},
		"a digest that the reference has not":     {withImage(imageFields + `,"digest":"` + digest + `"`), "images.containers.web.digest", "not the digest"},
		"a tag that is not the reference's":       {withImage(imageFields + `,"tag":"v2"`), "images.containers.web.tag", "not the tag"},
		"a tag beside a digest that is no tag":    {withImage(`"reference":"ghcr.io/acme/app@` + digest + `","tag":"v1@` + digest + `","jsonPointer":"/a"`), "images.containers.web.tag", "not a tag"},
		"the ID of an image, as Kyverno sends it": {withImage(`"registry":"docker.io","path":"sha256","name":"sha256","tag":"` + digest[7:] + `","reference":"docker.io/` + digest + `","jsonPointer":"/a"`), "images.containers.web.reference", "ID of an image on a node"},
		"the ID of an image, in parts":            {withImage(`"registry":"mirror.example","path":"sha256","tag":"` + digest[7:] + `","jsonPointer":"/a"`), "images.containers.web.path", "ID of an image on a node"},
		"an image without a pointer":              {withImage(`"reference":"ghcr.io/acme/app:v1"`), "images.containers.web.jsonPointer", "empty"},
		"a pointer that does not begin with /":    {withImage(`"reference":"ghcr.io/acme/app:v1","jsonPointer":"spec/image"`), "images.containers.web.jsonPointer", "start with /"},
		"a pointer with a bare ~":                 {withImage(`"reference":"ghcr.io/acme/app:v1","jsonPointer":"/a~2b"`), "images.containers.web.jsonPointer", "~"},
		"a pointer with ~ at its end":             {withImage(`"reference":"ghcr.io/acme/app:v1","jsonPointer":"/a~"`), "images.containers.web.jsonPointer", "~"},
		"one pointer for two containers":          {`{"images":{"containers":{"a":{` + imageFields + `},"b":{` + imageFields + `}}}}`, "images", "/spec/containers/0/image twice"},

		"images without a group":                   {`{"images":{}}`, "images", "names no image"},
		"groups without images":                    {`{"images":{"containers":{},"initContainers":{}}}`, "images", "names no image"},
		"more images than are read":                {`{"images":{"containers":{` + manyEntries(1001) + `}}}`, "images", "over 1000 images"},
		"an object with more images than are read": {withPod(`"containers":[` + strings.Repeat(`{"image":"a"},`, 1000) + `{"image":"a"}]`), "object", "over 1000 images"},
		"a pointer of a very long name":            {withImage(`"reference":"a","jsonPointer":"/` + strings.Repeat("n", 512) + `"`), "images.containers.web.jsonPointer", "at most 512"},
		"an image of a very long name":             {withPod(`"containers":[{"image":"` + strings.Repeat("n", 1<<20) + `"}]`), "object.spec.containers.0.image", "at most 1024"},
		"the ID of an image on the node":           {withPod(`"containers":[{"image":"` + digest + `"}]`), "object.spec.containers.0.image", "ID of an image on a node"},
		"a host with an underscore":                {withPod(`"containers":[{"image":"my_reg.example/x"}]`), "object.spec.containers.0.image", "\"my_reg.example\" is no host"},

		"a Pod whose containers are null":                 {withPod(`"containers":null`), "object", "no pod spec"},
		"a Pod whose containers are text":                 {withPod(`"containers":"web"`), "object", "no pod spec"},
		"an image volume that is a list":                  {withPod(`"containers":[{"image":"a"}],"volumes":[{"name":"v","image":[{"reference":"b"}]}]`), "object.spec.volumes.0.image", "not an object"},
		"an image volume that is a list, and nothing":     {withPod(`"volumes":[{"name":"v","image":[{"reference":"b"}]}]`), "object.spec.volumes.0.image", "not an object"},
		"an image volume that is text":                    {withPod(`"containers":[{"image":"a"}],"volumes":[{"name":"v","image":"b"}]`), "object.spec.volumes.0.image", "not an object"},
		"volumes that are an object":                      {withPod(`"containers":[{"image":"a"}],"volumes":{"v":{"image":{"reference":"b"}}}`), "object.spec.volumes", "not a list"},
		"containers that are an object beside a template": {`{"object":{"kind":"SidecarSet","spec":{"containers":{"a":{"image":"b"}},"template":{"spec":{"containers":[{"image":"a"}]}}}}}`, "object.spec.containers", "not a list"},
		"init containers that are an object":              {`{"object":{"spec":{"template":{"spec":{"initContainers":{},"containers":[{"image":"a"}]}}}}}`, "object.spec.template.spec.initContainers", "not a list"},
		"a template whose lists have no element":          {`{"object":{"spec":{"template":{"spec":{"containers":[],"volumes":[]}}}}}`, "object", "without containers"},

		"containers in other case":                  {withPod(`"containers":[{"image":"a"}],"Containers":[{"image":"b"}]`), "object", `"Containers"`},
		"containers in other case, alone":           {withPod(`"CONTAINERS":[{"image":"b"}]`), "object", `"CONTAINERS"`},
		"containers in other case, beside a number": {withPod(`"containers":[{"image":"a"}],"CONTAINERS":1,"Containers":[{"image":"b"}]`), "object", `"Containers"`},
		"containers under a letter like an s":       {withPod(`"containers":[{"image":"a"}],"initContainerſ":[{"image":"b"}]`), "object", "initContainer"},
		"an image in other case":                    {withPod(`"containers":[{"image":"a","Image":"b"}]`), "object.spec.containers.0.Image", "read by some as image"},
		"an image volume in other case":             {withPod(`"containers":[{"image":"a"}],"volumes":[{"name":"v","Image":{"reference":"b"}}]`), "object.spec.volumes.0.Image", "read by some as image"},
		"volumes in other case":                     {withPod(`"containers":[{"image":"a"}],"Volumes":[{"name":"v","image":{"reference":"b"}}]`), "object.spec.Volumes", "read by some as volumes"},
		"a volume's reference in other case":        {withPod(`"volumes":[{"name":"v","image":{"reference":"a","Reference":"b"}}]`), "object.spec.volumes.0.image.Reference", "read by some as reference"},

		"an empty object":                         {`{"object":{}}`, "object", "no pod spec"},
		"a Pod without a spec":                    {`{"object":{"kind":"Pod"}}`, "object", "no pod spec"},
		"a Pod with no containers":                {withPod(`"containers":[]`), "object", "without containers"},
		"containers that are an object":           {withPod(`"containers":{}`), "object.spec.containers", "not a list"},
		"a container that is text":                {withPod(`"containers":["nginx"]`), "object.spec.containers.0", "not an object"},
		"a container without an image":            {withPod(`"containers":[{"name":"a"}]`), "object.spec.containers.0.image", "must name its image"},
		"a container with an empty image":         {withPod(`"containers":[{"name":"a","image":""}]`), "object.spec.containers.0.image", "must name its image"},
		"a container whose image is a number":     {withPod(`"containers":[{"name":"a","image":1}]`), "object.spec.containers.0.image", "must name its image"},
		"an image volume without a reference":     {withPod(`"containers":[{"name":"a","image":"nginx"}],"volumes":[{"name":"v","image":{}}]`), "object.spec.volumes.0.image.reference", "must name its image"},
		"an init container without an image":      {withPod(`"containers":[{"name":"a","image":"nginx"}],"initContainers":[{}]`), "object.spec.initContainers.0.image", "must name its image"},
		"an ephemeral container without an image": {withPod(`"containers":[{"name":"a","image":"nginx"}],"ephemeralContainers":[{}]`), "object.spec.ephemeralContainers.0.image", "must name its image"},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			request, err := core.ParseRequest([]byte(tt.body))
			var refused *core.RequestError
			if !errors.As(err, &refused) {
				t.Fatalf("ParseRequest = %+v, %v; want a *RequestError", request, err)
			}
			if refused.Code != reason.RequestInvalid || refused.Field != tt.field || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %s, field %q: %v\nwant field %q and %q in the text", refused.Code, refused.Field, err, tt.field, tt.text)
			}
			speaksToPeople(t, err.Error())
		})
	}
}

// encoded is a request with an object in base64.
func encoded(object string) string {
	return `{"encodedObject":"` + base64.StdEncoding.EncodeToString([]byte(object)) + `"}`
}

// TestParseRequestAccepts keeps the refusals above from being refusals of everything.
func TestParseRequestAccepts(t *testing.T) {
	tests := map[string]string{
		"the smallest request":                      withImage(imageFields),
		"a request with space around it":            " \n" + withImage(imageFields) + "\n ",
		"what older policies send":                  withField(`"metadata":{"a":null},"insecure":"yes"`),
		"an object in base64":                       encoded(`{"kind":"Pod","spec":{"containers":[{"name":"c","image":"ghcr.io/acme/app:v1"}]}}`),
		"an image of a repository named sha256":     withImage(`"reference":"docker.io/library/sha256:v1","jsonPointer":"/a"`),
		"a demand for digests":                      withField(`"requireDigest":true`),
		"an admission":                              withField(`"admission":{"operation":"UPDATE","namespace":"shop","name":"web"}`),
		"an admission of which nothing is known":    withField(`"admission":{"operation":"","name":null}`),
		"a group without containers beside one":     `{"images":{"initContainers":{},"containers":{"a":{` + imageFields + `}}}}`,
		"a type without conditions":                 withType(`"name":"sbom"`),
		"a condition whose value is null":           withCondition(`"key":"{{ a }}","operator":"NotEquals","value":null`),
		"a condition without a value":               withCondition(`"key":"{{ a }}","operator":"Equals"`),
		"a condition whose key is an object":        withCondition(`"key":{"a":null},"operator":"Equals","value":{"a":null}`),
		"a key of a condition that is false":        withCondition(`"key":false,"operator":"Equals","value":false`),
		"an operator in other case":                 withCondition(`"key":"{{ a }}","operator":"equals","value":1`),
		"a value that is long":                      withField(`"metadata":{"a":"` + strings.Repeat("v", 5000) + `\":{{[["}`),
		"objects as deep as they may be":            withPod(`"containers":[{"image":"a"}],"x":` + strings.Repeat(`{"a":`, 97) + "1" + strings.Repeat("}", 97)),
		"as many attestation types as there may be": withField(`"attestations":[{"imageReference":"*","type":[` + strings.Repeat(`{"name":"a"},`, 99) + `{"name":"a"}]}]`),
		"a Pod":                 withPod(`"containers":[{"image":"nginx"}]`),
		"a Pod with null lists": withPod(`"containers":[{"image":"nginx"}],"initContainers":null,"volumes":null`),
		"two containers of one name in two groups": `{"images":{"containers":{"a":{` + imageFields + `}},"initContainers":{"a":{"reference":"a:b","jsonPointer":"/b"}}}}`,
	}
	for sentence, body := range tests {
		t.Run(sentence, func(t *testing.T) {
			if _, err := core.ParseRequest([]byte(body)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestParseRequestAcceptsEveryOperator(t *testing.T) {
	for _, operator := range core.Operators() {
		for _, spelling := range []string{operator, strings.ToLower(operator), strings.ToUpper(operator)} {
			request, err := core.ParseRequest([]byte(withCondition(fmt.Sprintf(`"key":"a","operator":%q`, spelling))))
			if err != nil {
				t.Fatal(err)
			}
			if got := request.Attestations[0].Types[0].Conditions.All[0].Operator; got != operator {
				t.Errorf("operator %q is spelt %q, want %q", spelling, got, operator)
			}
		}
	}
}

// speaksToPeople holds that a text does not speak of Go.
func speaksToPeople(t testing.TB, text string) {
	t.Helper()
	for _, word := range []string{"Go struct", "Go value", "map[", "core.", "json:", "[]string", "interface {}", "unmarshal", "%!"} {
		if strings.Contains(text, word) {
			t.Errorf("%q speaks of %q", text, word)
		}
	}
}
