package image

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Pointer is a JSON pointer (RFC 6901) to an image field, such as /spec/containers/0/image.
type Pointer string

// ParsePointer accepts a pointer to a field inside a document, but not the empty pointer to the whole document.
func ParsePointer(s string) (Pointer, error) {
	if !strings.HasPrefix(s, "/") {
		return "", fmt.Errorf("%q is not a JSON pointer to a field: it must start with /", s)
	}
	if strings.Count(s, "~") != strings.Count(s, "~0")+strings.Count(s, "~1") {
		return "", fmt.Errorf("%q is not a JSON pointer: ~ must be followed by 0 or 1", s)
	}
	return Pointer(s), nil
}

// Field is the pointer to a member of the object that p points at.
func (p Pointer) Field(name string) Pointer {
	return p + "/" + Pointer(strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1"))
}

// Index is the pointer to an element of the array that p points at.
func (p Pointer) Index(i int) Pointer { return p + "/" + Pointer(strconv.Itoa(i)) }

// Compare orders pointers segment by segment, and array indices by number, so that container 2 comes before container 10.
func (p Pointer) Compare(other Pointer) int {
	return slices.CompareFunc(strings.Split(string(p), "/"), strings.Split(string(other), "/"), compareSegments)
}

func compareSegments(a, b string) int {
	if a == b {
		return 0
	}
	x, errX := strconv.ParseUint(a, 10, 32)
	y, errY := strconv.ParseUint(b, 10, 32)
	if errX == nil && errY == nil && x != y {
		return cmp.Compare(x, y)
	}
	if errX == nil && errY != nil {
		return -1
	}
	if errX != nil && errY == nil {
		return 1
	}
	return cmp.Compare(a, b)
}
