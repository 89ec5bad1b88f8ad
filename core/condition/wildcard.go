package condition

import "github.com/nirmata/kyverno-notation-venafi/core/wildcard"

// match is [wildcard.Match], paid from the budget.
func (b *budget) match(pattern, text string) bool {
	return wildcard.Match(pattern, text, func(steps int) bool { b.step(steps); return true })
}
