package condition

import "fmt"

// The budget of an evaluation; see the package's documentation.
const (
	StepsAtLeast  = 64 << 20 // about half a second
	StepsPerByte  = 8
	BytesPerByte  = 16
	SmallDocument = 1 << 20 // bytes

	maxCall = 10 << 20 // steps of one call that cannot be interrupted: well under 100 ms
	lookAt  = 4096     // steps after which ended is called again
)

// stop is the value of the panic that ends an evaluation: the budget is spent, the request has ended, or something too large
// is refused. It is not an error, since JMESPath turns some errors into null, which could make a condition hold.
type stop struct {
	outcome Outcome
	reason  string
}

func refuse(format string, args ...any) {
	panic(stop{Invalid, fmt.Sprintf(format, args...)})
}

// budget is the rest of an evaluation's budget.
type budget struct {
	steps, bytes int
	look         int // steps until ended is called
	ended        func() bool
	spent        bool
}

func newBudget(document int, ended func() bool) *budget {
	return &budget{
		steps: StepsAtLeast + StepsPerByte*document, bytes: BytesPerByte * max(document, SmallDocument),
		look: lookAt, ended: ended,
	}
}

// step pays n steps of work.
func (b *budget) step(n int) {
	if n > b.steps {
		b.spent = true
		refuse("it takes more work than a document of its size is given; select a part of the document first, or compare with fewer values")
	}
	b.steps -= n
	if b.look -= n; b.look <= 0 {
		b.look = lookAt
		if b.ended != nil && b.ended() {
			panic(stop{Ended, "time ran out while its conditions were evaluated; try again"})
		}
	}
}

// grow pays n bytes of memory, and the work of filling them.
func (b *budget) grow(n int) {
	if n > b.bytes {
		b.spent = true
		refuse("it takes more memory than a document of its size is given; select a part of the document first")
	}
	b.bytes -= n
	b.step(n / 32)
}

// The memory of values, bytes.
const (
	slotBytes   = 16 // of an element of a list
	listBytes   = 24
	numberBytes = 8
	textBytes   = 16 // beside its characters
	mapBytes    = 48
	memberBytes = 40 // of a slot of an object, of which it has at least eight
)

// list and object pay for a list or object with n elements or members.
func (b *budget) list(n int)   { b.grow(listBytes + n*slotBytes) }
func (b *budget) object(n int) { b.grow(mapBytes + objectRoom(n)*memberBytes) }

func objectRoom(n int) int {
	room := 8
	switch {
	case n == 0:
		return 0
	case n <= room:
		return room
	}
	for room*7/8 < n {
		room *= 2
	}
	return room
}
