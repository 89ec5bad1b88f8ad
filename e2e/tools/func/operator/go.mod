module github.com/functions-dev/func-operator

go 1.26.8
