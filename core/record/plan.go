package record

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/samber/lo"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/condition"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

// NewPlan is the form of a plan in a record. plugins and limits are those that its tasks were completed with. Of trust stores it has
// those of the tasks that were worked out, which workedOut tells by their index: about others they say nothing.
func NewPlan(plan core.Plan, plugins string, limits verification.Limits, workedOut func(task int) bool) Plan {
	p := Plan{Policy: plan.Policy, Images: plan.Images, Tasks: make([]Task, 0, len(plan.Tasks)), Plugins: plugins, Limits: limits}
	stores := map[string]bool{}
	for i, task := range plan.Tasks {
		p.Tasks = append(p.Tasks, Task{
			Reference: task.Ref, Policy: task.Policy, Statement: task.Statement, Revision: task.Revision,
			Platforms: task.Platforms.List(),
			Demands:   lo.Map(task.Attestations, func(demand verification.AttestationType, _ int) string { return p.demand(demand) }),
		})
		if !workedOut(i) {
			continue
		}
		for _, name := range task.Statement.TrustStores {
			if !stores[name] {
				stores[name] = true
				p.store(task.Stores, name)
			}
		}
	}
	return p
}

// demand takes in a demand, once, and gives its identity.
func (p *Plan) demand(demand verification.AttestationType) string {
	identity := demand.Identity()
	if _, known := p.Demands[identity]; known {
		return identity
	}
	texts := func(conditions []condition.Condition) []Condition {
		return lo.Map(conditions, func(c condition.Condition, _ int) Condition {
			return Condition{Key: string(c.Key), Operator: c.Operator, Value: string(c.Value), Message: c.Message}
		})
	}
	if p.Demands == nil {
		p.Demands = map[string]Demand{}
	}
	p.Demands[identity] = Demand{Name: demand.Name, Select: demand.Select, Any: texts(demand.Conditions.Any), All: texts(demand.Conditions.All)}
	return identity
}

// store takes in the store of a name in a statement, if it exists.
func (p *Plan) store(stores trust.Stores, written string) {
	kind, name, _ := strings.Cut(written, ":")
	store, ok := stores[trust.StoreRef{Type: kind, Name: name}]
	if ok {
		p.Stores = append(p.Stores, Store{Type: kind, Name: name, Problem: store.Problem, Certificates: encoded(store.Certificates)})
	}
}

// plan is the plan itself, with its tasks completed.
func (p Plan) plan() core.Plan {
	stores := trust.Stores{}
	for _, store := range p.Stores {
		ref := trust.StoreRef{Type: store.Type, Name: store.Name}
		stores[ref] = trust.Store{Ref: ref, Problem: store.Problem, Certificates: decoded(store.Certificates)}
	}
	plan := core.Plan{Policy: p.Policy, Images: slices.Clone(p.Images)}
	for _, task := range p.Tasks {
		var demands []verification.AttestationType
		for _, identity := range task.Demands {
			demands = append(demands, p.Demands[identity].demand())
		}
		platforms, _ := image.ReadPlatforms(task.Platforms) // Decode has read it before
		plan.Tasks = append(plan.Tasks, verification.Task{
			Platforms: platforms,
			Ref:       task.Reference, Policy: task.Policy, Statement: task.Statement, Stores: stores, Revision: task.Revision,
			Attestations: demands, Plugins: p.Plugins, Limits: p.Limits,
		})
	}
	return plan
}

// demand is the demand itself.
func (d Demand) demand() verification.AttestationType {
	conditions := func(texts []Condition) (conditions []condition.Condition) {
		for _, c := range texts {
			read := condition.Condition{Key: json.RawMessage(c.Key), Operator: c.Operator, Message: c.Message}
			if c.Value != "" {
				read.Value = json.RawMessage(c.Value)
			}
			conditions = append(conditions, read)
		}
		return conditions
	}
	return verification.AttestationType{Name: d.Name, Select: d.Select, Conditions: condition.Conditions{Any: conditions(d.Any), All: conditions(d.All)}}
}

// Again plans the images of a record under the trust of now. What the request alone decided, and what it demands of an image,
// stays as it was.
func (p Plan) Again(snapshot trust.Snapshot) (core.Plan, error) {
	recorded := p.plan()
	byRequest := func(planned core.PlannedImage) bool {
		return planned.Decided != nil && (planned.Decided.Code == reason.NotSelected || planned.Decided.Code == reason.NotPinned)
	}
	request := core.Request{TrustPolicy: p.Policy}
	for _, planned := range recorded.Images {
		if !byRequest(planned) {
			request.Images = append(request.Images, planned.Image)
		}
	}
	plan, err := core.NewPlan(request, snapshot, "")
	if err != nil {
		return core.Plan{}, err
	}
	for i, task := range plan.Tasks {
		same := func(before verification.Task) bool { return before.Ref == task.Ref }
		if before, ok := lo.Find(recorded.Tasks, same); ok {
			plan.Tasks[i].Attestations = before.Attestations
			plan.Tasks[i].Platforms = task.Platforms.With(before.Platforms)
		}
	}
	anew := plan.Images
	plan.Images = nil
	for _, planned := range recorded.Images {
		if !byRequest(planned) {
			planned, anew = anew[0], anew[1:]
		}
		plan.Images = append(plan.Images, planned)
	}
	return plan, nil
}
