module github.com/nirmata/kyverno-notation-venafi/e2e/tools/pause

go 1.26.0
