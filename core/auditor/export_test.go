package auditor

// Spaces is how many namespaces are kept.
func (s *State) Spaces() int { return len(s.spaces) }
