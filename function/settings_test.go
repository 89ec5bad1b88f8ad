package function_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/function"
)

// TestLoadSettings reads the settings from flags and environment.
func TestLoadSettings(t *testing.T) {
	tests := map[string]struct {
		args []string
		env  map[string]string
		want func(function.Settings) bool
		fail string
	}{
		"nothing set gives the defaults": {nil, nil, func(s function.Settings) bool {
			return s.PlainAddress == ":8080" && s.RequestTimeout == 8*time.Second && s.MaxBodyBytes == 4<<20 && s.PluginDir == "/plugins" && !s.AllowInsecureRegistry
		}, ""},
		"PORT gives the port":                  {nil, map[string]string{"PORT": "9000"}, func(s function.Settings) bool { return s.PlainAddress == ":9000" }, ""},
		"PLAIN_ADDRESS goes before PORT":       {nil, map[string]string{"PORT": "9000", "PLAIN_ADDRESS": ":1"}, func(s function.Settings) bool { return s.PlainAddress == ":1" }, ""},
		"a flag goes before the environment":   {[]string{"--trustDir", "a"}, map[string]string{"TRUST_DIR": "b"}, func(s function.Settings) bool { return s.TrustDir == "a" }, ""},
		"PLUGINS_DIR":                          {nil, map[string]string{"PLUGINS_DIR": "/p"}, func(s function.Settings) bool { return s.PluginDir == "/p" }, ""},
		"an empty address closes the listener": {[]string{"--plainAddress="}, nil, func(s function.Settings) bool { return s.PlainAddress == "" }, ""},
		"plugin configuration, repeated": {[]string{"--pluginConfig", "a=1", "--pluginConfig", "b=2=3"}, nil, func(s function.Settings) bool {
			return reflect.DeepEqual(s.PluginConfig, map[string]string{"a": "1", "b": "2=3"})
		}, ""},
		"plugin configuration in the environment": {nil, map[string]string{"PLUGIN_CONFIG": "a=1,b=2"}, func(s function.Settings) bool {
			return reflect.DeepEqual(s.PluginConfig, map[string]string{"a": "1", "b": "2"})
		}, ""},
		"a list":                                    {[]string{"--insecureRegistries=a:1,b"}, nil, func(s function.Settings) bool { return reflect.DeepEqual(s.InsecureRegistries, []string{"a:1", "b"}) }, ""},
		"a boolean without a value":                 {[]string{"--allowInsecureRegistry"}, nil, func(s function.Settings) bool { return s.AllowInsecureRegistry }, ""},
		"a duration without a unit is refused":      {[]string{"--requestTimeout", "8"}, nil, nil, "requestTimeout"},
		"a duration of nothing is refused":          {[]string{"--requestTimeout", "0s"}, nil, nil, "requestTimeout"},
		"a number that is none is refused":          {nil, map[string]string{"MAX_PARALLEL": "many"}, nil, "MAX_PARALLEL"},
		"a bound of nothing is refused":             {[]string{"--maxParallel", "0"}, nil, nil, "maxParallel"},
		"a flag that does not exist is refused":     {[]string{"--trust-dir", "x"}, nil, nil, "trust-dir"},
		"plugin configuration without = is refused": {[]string{"--pluginConfig", "a"}, nil, nil, "key=value"},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			env := func(name string) (string, bool) { value, ok := test.env[name]; return value, ok }
			settings, _, err := function.LoadSettings("test", test.args, env, nil)
			switch {
			case test.fail != "" && (err == nil || !strings.Contains(err.Error(), test.fail)):
				t.Errorf("error %v; want one that names %s", err, test.fail)
			case test.fail == "" && err != nil:
				t.Error(err)
			case test.fail == "" && !test.want(settings):
				t.Errorf("settings %+v", settings)
			}
		})
	}
}
