module github.com/nirmata/kyverno-notation-venafi/e2e

go 1.26.0
