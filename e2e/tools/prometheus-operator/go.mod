module github.com/nirmata/kyverno-notation-venafi/e2e/tools/prometheus-operator

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.92.0
