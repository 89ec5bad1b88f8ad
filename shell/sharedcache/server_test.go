package sharedcache

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseServer(t *testing.T) {
	for text, want := range map[string]Server{
		"redis://cache.example":         {Addresses: []string{"cache.example:6379"}},
		"rediss://cache.example:6380/3": {Addresses: []string{"cache.example:6380"}, TLS: true, Database: 3},
		"redis://knv@10.0.0.1":          {Addresses: []string{"10.0.0.1:6379"}, User: "knv"},
		"redis://[fd00::1]":             {Addresses: []string{"[fd00::1]:6379"}},
		"redis://[fd00::1]:7000":        {Addresses: []string{"[fd00::1]:7000"}},
		"redis://a:26379?addr=b:26379&sentinel=main&sentinelAuth=true": {Addresses: []string{"a:26379", "b:26379"}, Sentinel: "main", SentinelAuth: true},
		"rediss://a?addr=b&addr=c:7&cluster=true":                      {Addresses: []string{"a:6379", "b:6379", "c:7"}, TLS: true, Cluster: true},
	} {
		if got, err := ParseServer(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"redis://knv:hunter2@cache.example":     "sharedCachePasswordFile",
		"redis://:hunter2@cache.example":        "sharedCachePasswordFile",
		"redis://knv:hunter2@cache.example:bad": "is no URL",
		"cache.example:6379":                    "scheme",
		"https://cache.example":                 "scheme",
		"redis://":                              "has no host",
		"redis://a?addr=":                       "has no host",
		"redis://a?addr=b":                      "several addresses",
		"redis://a/b":                           "no number of a database",
		"redis://a/-1":                          "no number of a database",
		"redis://a?password=hunter2":            "it is unknown",
		"redis://a?cluster=maybe":               "cluster",
		"redis://a?cluster=true&cluster=false":  "twice",
		"redis://a?cluster=true&sentinel=b":     "leave one of them out",
		"redis://a/1?cluster=true":              "no databases",
	} {
		if _, err := ParseServer(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
