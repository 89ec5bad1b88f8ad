package condition

import (
	"fmt"
	"math"
	"time"

	"gopkg.in/inf.v0"
	"k8s.io/apimachinery/pkg/api/resource"
)

// arithmetic adds the functions that compute with numbers, quantities of Kubernetes and durations.
func (l functions) arithmetic() {
	for name, compute := range map[string]func(name string, x, y any) (any, error){"add": plus, "subtract": minus, "multiply": times, "divide": divide, "modulo": modulo} {
		l.add(name, small, func(a []any) (any, error) { return computed(name, compute, a[0], a[1]) }, "any", "any")
	}
	l.add("sum", sumCost, sum, "array")
	l.add("round", small, round, "number", "number")
}

// computed reads two operands and computes with them.
func computed(name string, compute func(name string, x, y any) (any, error), x, y any) (any, error) {
	left, ok := operand(x)
	right, other := operand(y)
	if !ok || !other {
		return nil, fault(name, "invalid operand")
	}
	return compute(name, left, right)
}

// operand is a number, or a text read as a quantity, or else as a duration. The library reads a unit without a number as zero,
// and then computes with as many digits as its exponent says; here it is no quantity.
func operand(value any) (any, bool) {
	switch v := value.(type) {
	case float64:
		return v, true
	case string:
		if quantityShape.MatchString(v) {
			if quantity, err := resource.ParseQuantity(v); err == nil {
				return quantity, true
			}
		}
		if duration, err := time.ParseDuration(v); err == nil {
			return duration, true
		}
	}
	return nil, false
}

func mismatch(name string) error    { return fault(name, "Types mismatch") }
func zeroDivisor(name string) error { return fault(name, "Zero divisor passed") }
func noInteger(name string) error   { return fault(name, "Non-integer argument(s) passed for modulo") }
func tooLong(name string)           { refuse("%s gives a duration that is out of range", name) }

func plus(name string, x, y any) (any, error) {
	switch x := x.(type) {
	case float64:
		if y, ok := y.(float64); ok {
			return x + y, nil
		}
	case resource.Quantity:
		if y, ok := y.(resource.Quantity); ok {
			x.Add(y)
			return x.String(), nil
		}
	case time.Duration:
		if y, ok := y.(time.Duration); ok {
			sum := x + y
			if (sum < x) != (y < 0) {
				tooLong(name)
			}
			return sum.String(), nil
		}
	}
	return nil, mismatch(name)
}

func minus(name string, x, y any) (any, error) {
	switch x := x.(type) {
	case float64:
		if y, ok := y.(float64); ok {
			return x - y, nil
		}
	case resource.Quantity:
		if y, ok := y.(resource.Quantity); ok {
			x.Sub(y)
			return x.String(), nil
		}
	case time.Duration:
		if y, ok := y.(time.Duration); ok {
			difference := x - y
			if (difference > x) != (y < 0) {
				tooLong(name)
			}
			return difference.String(), nil
		}
	}
	return nil, mismatch(name)
}

// times multiplies by a number, which may stand on either side.
func times(name string, x, y any) (any, error) {
	factor, ok := y.(float64)
	if !ok {
		if factor, ok = x.(float64); !ok {
			return nil, mismatch(name)
		}
		x = y
	}
	switch x := x.(type) {
	case float64:
		return x * factor, nil
	case resource.Quantity:
		by, err := decimal(factor)
		if err != nil {
			return nil, err
		}
		return resource.NewDecimalQuantity(*new(inf.Dec).Mul(x.AsDec(), by), x.Format).String(), nil
	case time.Duration:
		return seconds(name, x.Seconds()*factor), nil
	}
	return nil, mismatch(name)
}

// decimal is a number with the precision that a quantity has.
func decimal(n float64) (*inf.Dec, error) {
	quantity, err := resource.ParseQuantity(fmt.Sprint(n))
	if err != nil {
		return nil, err
	}
	return quantity.AsDec(), nil
}

// seconds writes a duration.
func seconds(name string, n float64) string {
	n *= float64(time.Second)
	if math.Abs(n) >= 1<<63 {
		tooLong(name)
	}
	return time.Duration(n).String()
}

// divide divides by a number, or by what is of the same kind, which gives a number.
func divide(name string, x, y any) (any, error) {
	switch y := y.(type) {
	case float64:
		return divideByNumber(name, x, y)
	case resource.Quantity:
		if x, ok := x.(resource.Quantity); ok {
			return quotient(name, x.AsApproximateFloat64(), y.AsApproximateFloat64())
		}
	case time.Duration:
		if x, ok := x.(time.Duration); ok {
			return quotient(name, x.Seconds(), y.Seconds())
		}
	}
	return nil, mismatch(name)
}

func quotient(name string, x, y float64) (any, error) {
	if y == 0 {
		return nil, zeroDivisor(name)
	}
	return x / y, nil
}

func divideByNumber(name string, x any, by float64) (any, error) {
	if by == 0 {
		return nil, zeroDivisor(name)
	}
	switch x := x.(type) {
	case float64:
		return x / by, nil
	case resource.Quantity:
		divisor, err := decimal(by)
		if err != nil {
			return nil, err
		}
		dividend := x.AsDec()
		quotient := new(inf.Dec).QuoRound(dividend, divisor, max(dividend.Scale(), divisor.Scale()), inf.RoundDown)
		return resource.NewDecimalQuantity(*quotient, x.Format).String(), nil
	case time.Duration:
		return seconds(name, x.Seconds()/by), nil
	}
	return nil, mismatch(name)
}

// modulo gives what is left of a division of whole numbers, with the sign of the dividend.
func modulo(name string, x, y any) (any, error) {
	switch x := x.(type) {
	case float64:
		if y, ok := y.(float64); ok {
			left, err := remainder(name, x, y)
			return float64(left), err
		}
	case resource.Quantity:
		if y, ok := y.(resource.Quantity); ok {
			left, err := remainder(name, x.ToDec().AsApproximateFloat64(), y.ToDec().AsApproximateFloat64())
			return resource.NewQuantity(left, x.Format).String(), err
		}
	case time.Duration:
		if y, ok := y.(time.Duration); ok && y == 0 {
			return nil, zeroDivisor(name)
		} else if ok {
			return (x % y).String(), nil
		}
	}
	return nil, mismatch(name)
}

func remainder(name string, x, y float64) (int64, error) {
	dividend, ok := whole(x)
	divisor, other := whole(y)
	switch {
	case !ok || !other:
		return 0, noInteger(name)
	case divisor == 0:
		return 0, zeroDivisor(name)
	}
	return dividend % divisor, nil
}

// whole is a number that is an integer of 64 bits.
func whole(n float64) (int64, bool) {
	if n != math.Trunc(n) || n < -1<<63 || n >= 1<<63 {
		return 0, false
	}
	return int64(n), true
}

// sum adds up a list. The only element of one is its sum, whatever it is.
func sum(a []any) (any, error) {
	list, _ := a[0].([]any)
	if len(list) == 0 {
		return nil, fault("sum", "at least one element in the array is required")
	}
	total := list[0]
	for _, element := range list[1:] {
		var err error
		if total, err = computed("sum", plus, total, element); err != nil {
			return nil, err
		}
	}
	return total, nil
}

// round rounds to a number of decimal places.
func round(a []any) (any, error) {
	n, _ := a[0].(float64)
	argument, _ := a[1].(float64)
	places, ok := whole(argument)
	switch {
	case !ok:
		return nil, fault("round", "Non-integer argument(s) passed for round off")
	case places < 0:
		return nil, fault("round", "argument #2 is negative")
	}
	shift := math.Pow(10, float64(places))
	return math.Round(n*shift) / shift, nil
}

// small is the cost of computing with numbers, quantities and durations.
func small(e *evaluation, arguments []any) (int, int) {
	for i := range arguments {
		e.operand(textOf(arguments, i))
	}
	return 500, 500
}

// operand refuses a string whose number or quantity takes long to compute with.
func (e *evaluation) operand(text string) {
	if len(text) > maxQuantity {
		refuse("the expression %q computes with a text of %d bytes", quoted(e.expression), len(text))
	}
	e.quantity(text)
}

func sumCost(e *evaluation, arguments []any) (int, int) {
	list, _ := arguments[0].([]any)
	for i := range list {
		e.operand(textOf(list, i))
	}
	return 200 * len(list), 200 * len(list)
}
