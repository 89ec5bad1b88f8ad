package cache_test

import (
	"context"
	"fmt"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/shell/cache"
)

func ExampleGetOrDo() {
	c := cache.New(cache.Options{Size: 1000, Timeout: 8 * time.Second})
	defer c.Close()
	key := cache.Key{Kind: verification.Resolve, Repository: "ghcr.io/acme/app", Subject: "v1"}
	for range 2 {
		digest, ok := cache.GetOrDo(context.Background(), c, key, func(context.Context) (string, cache.Keep) {
			fmt.Println("the registry is asked")
			return "sha256:1234", cache.Keep{For: 10 * time.Second}
		})
		fmt.Println(digest, ok)
	}
	c.Flush()
	_, ok := cache.Get[string](c, key)
	fmt.Println("kept after a flush:", ok)
	// Output:
	// the registry is asked
	// sha256:1234 true
	// sha256:1234 true
	// kept after a flush: false
}
