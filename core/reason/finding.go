package reason

// Finding is a code with the sentence that explains it.
type Finding struct {
	Code   Code   `json:"code"`
	Reason string `json:"reason"`
}
