package reason

// Finding is a code with the sentence that explains it.
type Finding struct {
	Code   Code
	Reason string
}
