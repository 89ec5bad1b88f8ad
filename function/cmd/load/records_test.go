package main

import (
	"math/rand/v2"
	"testing"
)

// TestMedianWithin draws values again and again, and counts how often the interval holds the median of what they are drawn from.
func TestMedianWithin(t *testing.T) {
	random, within := rand.New(rand.NewPCG(1, 2)), 0
	const times = 2000
	for range times {
		values := make([]float64, recordTurns)
		for i := range values {
			values[i] = random.ExpFloat64() // whose median is the logarithm of 2
		}
		least, median, most := medianWithin(values)
		if least > median || median > most {
			t.Fatalf("%f %f %f", least, median, most)
		}
		if least < 0.6931 && 0.6931 < most {
			within++
		}
	}
	if share := float64(within) / times; share < 0.94 || share > 0.98 {
		t.Errorf("it holds the median in %.3f of the cases", share)
	}
	if least, median, most := medianWithin([]float64{3, 1, 2}); least != 1 || median != 2 || most != 3 {
		t.Errorf("of three values %f %f %f", least, median, most)
	}
}
