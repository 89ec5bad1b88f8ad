package condition

import (
	"fmt"
	"strconv"
	"time"

	"github.com/samber/lo"
)

// times adds the functions that compute with points in time, which are texts as RFC 3339 has them.
func (l functions) times() {
	l["time_now"] = function{call: func(e *evaluation, _ []any, _ int) (any, error) { return e.clock().Format(time.RFC3339), nil }}
	l["time_now_utc"] = function{call: func(e *evaluation, _ []any, _ int) (any, error) { return e.clock().UTC().Format(time.RFC3339), nil }}
	l["time_since"] = taking(timeSince, "string", "string", "string")
	brief := short(maxNumber, 4, 4)
	l.add("time_parse", brief, timeParse, "string", "string")
	l.add("time_add", brief, shifted(time.Time.Add), "string", "string")
	l.add("time_truncate", brief, shifted(time.Time.Truncate), "string", "string")
	l.add("time_utc", brief, onTimes(func(t ...time.Time) any { return t[0].UTC().Format(time.RFC3339) }), "string")
	l.add("time_to_cron", brief, onTimes(func(t ...time.Time) any {
		return fmt.Sprintf("%d %d %d %d %d", t[0].Minute(), t[0].Hour(), t[0].Day(), t[0].Month(), t[0].Weekday())
	}), "string")
	l.add("time_diff", brief, onTimes(func(t ...time.Time) any { return t[1].Sub(t[0]).String() }), "string", "string")
	l.add("time_before", brief, onTimes(func(t ...time.Time) any { return t[0].Before(t[1]) }), "string", "string")
	l.add("time_after", brief, onTimes(func(t ...time.Time) any { return t[0].After(t[1]) }), "string", "string")
	l.add("time_between", brief, onTimes(func(t ...time.Time) any { return t[0].After(t[1]) && t[0].Before(t[2]) }), "string", "string", "string")
}

// onTimes reads all arguments as points in time.
func onTimes(compute func(t ...time.Time) any) func(a []any) (any, error) {
	return func(a []any) (any, error) {
		read := make([]time.Time, len(a))
		for i := range a {
			var err error
			if read[i], err = time.Parse(time.RFC3339, textOf(a, i)); err != nil {
				return nil, err
			}
		}
		return compute(read...), nil
	}
}

// shifted changes a point in time by a duration.
func shifted(shift func(time.Time, time.Duration) time.Time) func(a []any) (any, error) {
	return func(a []any) (any, error) {
		read, err := time.Parse(time.RFC3339, textOf(a, 0))
		if err != nil {
			return nil, err
		}
		by, err := time.ParseDuration(textOf(a, 1))
		if err != nil {
			return nil, err
		}
		return shift(read, by).Format(time.RFC3339), nil
	}
}

// timeParse reads a point in time of a layout, or seconds since 1970 where the layout is a whole number.
func timeParse(a []any) (any, error) {
	layout, text := textOf(a, 0), textOf(a, 1)
	if _, err := strconv.ParseInt(layout, 10, 64); err == nil {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, err
		}
		return time.Unix(seconds, 0).UTC().Format(time.RFC3339), nil
	}
	read, err := time.Parse(layout, text)
	if err != nil {
		return nil, err
	}
	return read.Format(time.RFC3339), nil
}

// clock gives the time, and marks the result as time dependent.
func (e *evaluation) clock() time.Time {
	e.timeDependent = true
	e.grow(2 * maxShown)
	return e.now
}

// timeSince gives the duration from a start to an end, or to now where the end is empty.
func timeSince(e *evaluation, a []any, _ int) (any, error) {
	steps, bytes := short(maxNumber, 4, 4)(e, a)
	e.pay("time_since", steps, bytes)
	layout := lo.CoalesceOrEmpty(textOf(a, 0), time.RFC3339)
	start, err := time.Parse(layout, textOf(a, 1))
	if err != nil {
		return nil, fmt.Errorf("fails: %s", cut(err.Error()))
	}
	if textOf(a, 2) == "" {
		return e.clock().Sub(start).String(), nil
	}
	end, err := time.Parse(layout, textOf(a, 2))
	if err != nil {
		return nil, fmt.Errorf("fails: %s", cut(err.Error()))
	}
	return end.Sub(start).String(), nil
}
