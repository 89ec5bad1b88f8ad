package auditor

// Len is how many registries are remembered.
func (p *Pace) Len() int { return len(p.budgets) }
