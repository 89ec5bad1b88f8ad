package migrate

import (
	"net/url"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// rule is a rule that asks the service.
type rule struct {
	at             value
	name           string
	match, exclude block
	preconditions  []cel
	calls          []call
	mutates        *value
	validates      *value
	action         string   // failureAction of validate; "" for that of the policy
	notes          []string // what was left out, and why that decides nothing
}

// call is an apiCall to the service, and what it sends beside the object.
type call struct {
	at              value
	name            string // of the context entry
	url             string
	sendsObject     bool
	trustPolicy     string // expressions of CEL; "" where the field is not sent
	imageReferences string
	attestations    string
	platforms       string
	requireDigest   bool
}

func (t *translation) readRule(v value) rule {
	r := rule{at: v}
	left := func(why string) func(value) {
		return func(v value) { r.notes = append(r.notes, v.field+" is left out: "+why) }
	}
	v.object(fields{
		"name":          func(v value) { r.name = v.text() },
		"match":         func(v value) { r.match = t.readBlock(v, true) },
		"exclude":       func(v value) { r.exclude = t.readBlock(v, false) },
		"preconditions": func(v value) { r.preconditions = readPreconditions(v) },
		"context":       func(v value) { v.list(r.readContext) },
		"mutate":        func(v value) { r.mutates = &v },
		"validate":      func(v value) { r.validates = &v },

		"reportProperties":       left("it is about reports"),
		"skipBackgroundRequests": func(v value) { v.boolean() }, // about rules that generate
	})
	switch {
	case r.match.at.node == nil:
		v.fail("has no match")
	case len(r.calls) != 1:
		v.fail("makes %d calls to /checkimages, and can be carried over with one; move it to a policy of its own", len(r.calls))
	case (r.mutates == nil) == (r.validates == nil):
		v.fail("needs mutate or validate, one of the two")
	case r.mutates != nil:
		r.readMutation()
	default:
		r.readValidation()
	}
	return r
}

// readContext reads an entry of context. Entries beside the call may be left out, since no expression that names one of them is
// carried over.
func (r *rule) readContext(v value) {
	var name string
	var apiCall *value
	v.object(fields{
		"name": func(v value) { name = v.text() }, "apiCall": func(v value) { apiCall = &v },
		"configMap": nil, "imageRegistry": nil, "variable": nil, "globalReference": nil,
	})
	if first, _, _ := strings.Cut(name, "."); first == "request" || first == "images" || strings.HasPrefix(first, "element") {
		v.fail("has the name %s, which hides what Kyverno calls so; rename it", quoted(name))
	}
	if apiCall != nil && asksService(apiCall.node) {
		r.calls = append(r.calls, readCall(*apiCall, name))
		return
	}
	r.notes = append(r.notes, v.field+" "+quoted(name)+" is left out: nothing that is carried over uses it, and Kyverno itself has to trust the service's CA")
}

// asksService tells whether an apiCall has a service whose URL ends with /checkimages.
func asksService(node *yaml.Node) bool {
	service := child(child(node, "service"), "url")
	if service == nil {
		return false
	}
	address, err := url.Parse(service.Value)
	return err == nil && strings.TrimSuffix(address.Path, "/") == "/checkimages"
}

func child(node *yaml.Node, name string) *yaml.Node {
	if node == nil || node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return node.Content[i+1]
		}
	}
	return nil
}

func readCall(v value, name string) call {
	c := call{at: v, name: name}
	refused := func(why string) func(value) { return func(v value) { v.fail("%s", why) } }
	method := ""
	v.object(fields{
		"method":   func(v value) { method = v.choice("POST", "GET") },
		"urlPath":  refused("stands beside service; remove it"),
		"jmesPath": refused("changes the answer before it is used; take the whole answer"),
		"default":  refused("admits what could not be verified; remove it"),
		"data":     func(v value) { v.list(c.readData) },
		"service": func(v value) {
			v.object(fields{
				"url":      func(v value) { c.url = v.text() },
				"caBundle": nil, // Kyverno itself has to trust the CA
				"headers":  refused("sends headers, but the service reads none but the token, which the new policies send"),
			})
		},
	})
	if method != "POST" {
		v.fail("needs method: POST")
	}
	if !c.sendsObject {
		v.fail("sends no object; it needs encodedObject, object or images in data")
	}
	return c
}

// readData reads an entry of data: a field of the request.
func (c *call) readData(v value) {
	var key string
	var sent *value
	v.object(fields{"key": func(v value) { key = v.text() }, "value": func(v value) { sent = &v }})
	whole := map[string]string{
		"images": "{{images}}", "object": "{{request.object}}", "encodedObject": "{{base64_encode(to_string(request.object))}}",
	}
	switch {
	case sent == nil:
		v.fail("has no value")
	case whole[key] != "":
		if compact(sent.text()) != whole[key] {
			sent.fail("sends a part of the object, but the new policies send the whole of it; write %s", whole[key])
		}
		c.sendsObject = true
	case key == "trustPolicy":
		if translated := template(*sent, sent.text()); translated.is.isText() {
			c.trustPolicy = translated.text
		} else if translated.is != unknown {
			sent.fail("is no text")
		}
	case key == "imageReferences":
		if constant := readConstant(*sent, ""); constant.is != "list(string)" {
			sent.fail("is no list of texts")
		} else {
			c.imageReferences = constant.text
		}
	case key == "platforms":
		if constant := readConstant(*sent, ""); constant.is != "list(string)" {
			sent.fail("is no list of texts")
		} else {
			c.platforms = constant.text
		}
	case key == "attestations":
		if sent.node.Kind != yaml.SequenceNode {
			sent.fail("is no list")
		}
		c.attestations = readConstant(*sent, "").text
	case key == "requireDigest":
		c.requireDigest = sent.boolean()
	case key == "admission": // which the new policies fill in themselves
	case key != "metadata" && key != "insecure": // which the service accepts and does not use
		v.fail("sends the field %s, which the service does not know; remove it", quoted(key))
	}
}

// compact is a text without white space.
func compact(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text)
}

// readMutation accepts a mutation that sets the fields of the answer, in each of the ways in which policies write that.
func (r *rule) readMutation() {
	r.mutates.object(fields{"foreach": func(v value) {
		if v.node.Kind == yaml.SequenceNode && len(v.node.Content) != 1 {
			v.fail("has several entries; one that sets what the service answers can be carried over")
		}
		v.list(func(v value) {
			v.object(fields{
				"list": func(v value) {
					if list := strings.TrimSuffix(strings.TrimPrefix(compact(v.text()), "{{"), "}}"); list != r.calls[0].name+".results" {
						v.fail("is %s; only %s.results can be carried over", quoted(list), clip(r.calls[0].name))
					}
				},
				"patchesJson6902": func(v value) {
					if !setsAnswer(v.text()) {
						v.fail("does more than set {{ element.path }} to {{ element.value }}; only that can be carried over")
					}
				},
			})
			if child(v.node, "list") == nil || child(v.node, "patchesJson6902") == nil {
				v.fail("needs list and patchesJson6902")
			}
		})
	}})
	if child(r.mutates.node, "foreach") == nil {
		r.mutates.fail("has no foreach, so it does not set what the service answers; only that can be carried over")
	}
}

// setsAnswer tells whether a patch has one operation, which sets the field of the answer to the image of the answer.
func setsAnswer(patch string) bool {
	clean := strings.NewReplacer(`"`, "", "'", "", " ", "", "\t", "", "\r", "").Replace(patch)
	clean = strings.TrimSpace(clean)
	for _, brackets := range [][2]string{{"[{", "}]"}, {"-{", "}"}} { // an operation in JSON, or in YAML on one line
		if inner, found := strings.CutPrefix(clean, brackets[0]); found && strings.HasSuffix(inner, brackets[1]) {
			clean = strings.TrimSuffix(inner, brackets[1])
		}
	}
	found := map[string]string{}
	for _, part := range strings.FieldsFunc(clean, func(r rune) bool { return r == '\n' || r == ',' }) {
		key, value, _ := strings.Cut(strings.TrimPrefix(part, "-"), ":")
		if _, twice := found[key]; twice {
			return false
		}
		found[key] = value
	}
	op, value := found["op"], found["value"]
	return len(found) == 3 && found["path"] == "{{element.path}}" &&
		(op == "replace" || op == "{{element.op}}") && (value == "{{element.value}}" || value == "{{element.image}}")
}

// readValidation accepts a denial of what the service does not call verified.
func (r *rule) readValidation() {
	denies := false
	condition := func(v value) {
		v.list(func(v value) {
			var key, operator string
			var wanted bool
			v.object(fields{
				"key":      func(v value) { key = compact(v.text()) },
				"operator": func(v value) { operator = v.text() },
				"value":    func(v value) { wanted = v.boolean() },
				"message":  nil,
			})
			equals := operator == "Equals" || operator == "Equal"
			if denies || key != "{{"+r.calls[0].name+".verified}}" || !equals && operator != "NotEquals" && operator != "NotEqual" || wanted == equals {
				v.fail("is not the one condition {{ %s.verified }} Equals false; only that can be carried over", clip(r.calls[0].name))
			}
			denies = true
		})
	}
	r.validates.object(fields{
		"message":       nil, // the service says why
		"failureAction": func(v value) { r.action = v.choice(actions...) },
		"failureActionOverrides": func(v value) {
			v.fail("depends on the namespace; write a rule for each set of namespaces")
		},
		"allowExistingViolations": func(v value) { v.boolean() }, // about failures; what the service denies is an error
		"deny": func(v value) {
			v.object(fields{"conditions": func(v value) {
				if v.node.Kind == yaml.SequenceNode {
					condition(v)
					return
				}
				v.object(fields{"any": condition, "all": condition})
			}})
		},
	})
	if !denies {
		r.validates.fail("does not deny what the service does not call verified; only that can be carried over")
	}
}

var actions = []string{"Audit", "Enforce", "audit", "enforce"}
