package function

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Flags are settings that a command reads from its flags and from the environment. A flag goes before the environment variable, and
// that before the default.
type Flags []*Field

// FlagsOf gives the settings in structs, which are given as pointers, and are set by Load.
func FlagsOf(structs ...any) Flags {
	var all Flags
	for _, each := range structs {
		all = append(all, fieldsOf(each)...)
	}
	return all
}

// SettingAnnotation marks a flag of a setting. Its value is the environment variable.
const SettingAnnotation = "environment"

// Register adds flags for the settings of these groups, which are those that the tag for names; for all settings, where no group is
// named. The others are read from the environment only. A group may also be the name of one flag.
func (f Flags) Register(flags *pflag.FlagSet, groups ...string) {
	for _, field := range f {
		if len(groups) > 0 && !slices.Contains(groups, field.Group) && !slices.Contains(groups, field.Flag) {
			continue
		}
		flag := flags.VarPF(field, field.Flag, "", field.Help+" [$"+field.Env+"]")
		flag.Annotations = map[string][]string{SettingAnnotation: {field.Env}}
		if field.Type() == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
}

// Load sets all settings, after the flags were parsed.
func (f Flags) Load(env Environment) error {
	for _, field := range f {
		if err := field.load(env); err != nil {
			return err
		}
	}
	return nil
}

// HelpError is the answer to -h, with the text to print. It unwraps to pflag.ErrHelp.
type HelpError struct{ Text string }

// Error is the text.
func (e *HelpError) Error() string { return e.Text }

// Unwrap gives pflag.ErrHelp.
func (e *HelpError) Unwrap() error { return pflag.ErrHelp }

// parse reads structs of settings, for LoadSettings.
func parse(name string, args []string, env Environment, add func(*pflag.FlagSet), structs ...any) (rest []string, err error) {
	fields, flags := FlagsOf(structs...), pflag.NewFlagSet(name, pflag.ContinueOnError)
	flags.Usage = func() {} // whoever prints the error says how to go on
	fields.Register(flags)
	if add != nil {
		add(flags)
	}
	mended, _ := DoubleDashes(flags, args)
	err = flags.Parse(mended)
	if errors.Is(err, pflag.ErrHelp) {
		return nil, &HelpError{"Flags of " + name + ":\n" + flags.FlagUsages()}
	}
	if err != nil {
		return nil, err
	}
	return flags.Args(), fields.Load(env)
}

// DoubleDashes mends the arguments of a command line in the style of Go's package flag, which versions up to now had: a flag that is
// written with one dash gets two, and one of one letter that is written with two gets one. It gives the names of those that had one.
func DoubleDashes(flags *pflag.FlagSet, args []string) (mended, single []string) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return append(mended, args[i:]...), single
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		flag := flags.Lookup(name)
		if len(name) == 1 {
			flag = flags.ShorthandLookup(name)
		}
		if !strings.HasPrefix(arg, "-") || flag == nil {
			mended = append(mended, arg)
			continue
		}
		if len(name) > 1 && !strings.HasPrefix(arg, "--") {
			single = append(single, name)
		}
		arg = cmp.Or(map[bool]string{true: "-"}[len(name) == 1], "--") + name
		if hasValue {
			arg += "=" + value
		}
		mended = append(mended, arg)
		if !hasValue && flag.NoOptDefVal == "" && i+1 < len(args) { // its value, which may look like a flag
			i++
			mended = append(mended, args[i])
		}
	}
	return mended, single
}

// Field is one setting: its tags, and the struct field for its value.
type Field struct {
	Flag, Group, Env, Default, Help string

	value reflect.Value
	given []string // by the flag, in order
}

// Fields lists the settings, for documentation.
func Fields() []*Field { return fieldsOf(&Settings{}) }

// fieldsOf gives the fields of a struct of settings; settings is a pointer to it.
func fieldsOf(settings any) []*Field {
	value := reflect.ValueOf(settings).Elem()
	fields := make([]*Field, value.NumField())
	for i := range fields {
		tag := value.Type().Field(i).Tag
		fields[i] = &Field{Flag: tag.Get("flag"), Group: tag.Get("for"), Env: tag.Get("env"), Default: tag.Get("default"), Help: tag.Get("help"), value: value.Field(i)}
	}
	return fields
}

// load sets the field from the environment, or else to its default, and then by its flag.
func (f *Field) load(env Environment) error {
	f.value.SetZero()
	text, ok := env(f.Env)
	if port, set := env("PORT"); !ok && f.Flag == "plainAddress" && set && port != "" {
		text, ok = ":"+port, true
	}
	if !ok {
		text = f.Default
	}
	if text != "" || ok {
		for _, part := range f.split(text) {
			if err := f.set(part); err != nil {
				return fmt.Errorf("environment variable %s: %w", f.Env, err)
			}
		}
	}
	for _, text := range f.given {
		if err := f.set(text); err != nil {
			return fmt.Errorf("--%s: %w", f.Flag, err)
		}
	}
	return nil
}

// split splits an environment variable that holds several values of a repeatable flag.
func (f *Field) split(text string) []string {
	if f.value.Kind() != reflect.Map {
		return []string{text}
	}
	return splitList(text)
}

func splitList(text string) []string {
	parts := strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
	return slices.DeleteFunc(parts, func(s string) bool { return strings.TrimSpace(s) == "" })
}

// Type is a word for the value; part of pflag.Value.
func (f *Field) Type() string {
	switch f.value.Interface().(type) {
	case bool, *bool:
		return "bool"
	case int:
		return "int"
	case time.Duration:
		return "duration"
	case []string:
		return "list"
	case map[string]string:
		return "key=value"
	}
	return "string"
}

// String is part of pflag.Value; it gives the default.
func (f *Field) String() string {
	if f == nil {
		return ""
	}
	return f.Default
}

// Set is part of pflag.Value. What it is given goes before the environment.
func (f *Field) Set(text string) error {
	f.given = append(f.given, text)
	return f.set(text)
}

// set sets the setting, or adds to it where it is a map.
func (f *Field) set(text string) (err error) {
	switch into := f.value.Addr().Interface().(type) {
	case *string:
		*into = text
	case *bool:
		*into, err = strconv.ParseBool(text)
	case **bool:
		var value bool
		value, err = strconv.ParseBool(text)
		*into = &value
	case *int:
		*into, err = strconv.Atoi(text)
	case *time.Duration:
		*into, err = time.ParseDuration(text)
	case *[]string:
		*into = splitList(text)
	case *map[string]string:
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return fmt.Errorf("%q is not key=value", text)
		}
		*into = maps.Clone(*into)
		if *into == nil {
			*into = map[string]string{}
		}
		(*into)[key] = value
	default:
		return fmt.Errorf("a setting of type %T cannot be set", into)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	return nil
}
