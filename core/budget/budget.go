// Package budget decides when a registry may be asked, by what it answered before.
//
// A registry that refuses a request (status 429, or 503 with Retry-After) wants none for a while, and one that says that nothing is
// left of its rate limit will refuse the next. [State.Ask] then holds requests back, whoever makes them. A registry may be wrong, or lie: so
// while it is paused one request in a while is let through to try, and what it says is left is not believed for a while once that
// proves wrong. No pause outlasts a try that is answered.
//
// All functions are pure but for the state, which is a value of one registry.
package budget

import "time"

// Bounds on what a registry may say.
const (
	// MaxPause bounds a pause.
	MaxPause = time.Hour
	// TryEvery is how often a request is let through during a longer pause.
	TryEvery = time.Minute
	// MaxEmpty bounds the pause of a registry that says that nothing is left, and has not refused a request.
	MaxEmpty = 10 * time.Second
	// DoubtFor is how long it is not believed what is left, once a request was answered although it said nothing was.
	DoubtFor = 10 * time.Minute
	// MaxHeard bounds a pause that another replica tells of.
	MaxHeard = 10 * time.Second
	// DeafFor is how long other replicas are not believed, once a request was answered although one told of a pause.
	DeafFor = time.Minute

	firstPause = 100 * time.Millisecond // after a refusal that does not say for how long, and twice as long each time
	answerTime = 2 * time.Second        // for which a try may go unanswered before there is another
)

// State is what is known of one registry. The zero value knows nothing, and lets every request pass.
type State struct {
	paused   bool
	began    time.Time // of the pause
	until    time.Time // the pause lasts, unless a try is answered before
	next     time.Time // when the next try may be made; not after until at first
	refusals int       // in a row that did not say for how long
	why      cause

	doubted time.Time // until then it is not believed what is left
	deaf    time.Time // until then other replicas are not believed
	heard   time.Time // the end of the last pause that another replica told of

	left Left
}

type cause int

const (
	refused cause = iota
	empty
	told
)

// Left is what is left of a registry's rate limit, as it said last.
type Left struct {
	Known     bool
	Remaining int64         // requests
	Limit     int64         // requests; 0 where it is not said
	Reset     time.Duration // until more are allowed; 0 where it is not said
}

// Reply is what a registry answered.
type Reply struct {
	Sent       time.Time     // when the request was sent
	Refused    bool          // by status 429, or 503 with Retry-After
	RetryAfter time.Duration // as it says; negative where it does not
	Left       Left
}

// Wait is how long no request may be sent; 0 for none. Unlike Ask it makes no try.
func (s *State) Wait(now time.Time) time.Duration {
	if !s.paused {
		return 0
	}
	return max(0, s.next.Sub(now))
}

// Ask tells how long a request has to wait; 0 where it may be sent. During a pause that is a try, and the next one is held back.
func (s *State) Ask(now time.Time) time.Duration {
	wait := s.Wait(now)
	if wait > 0 || !s.paused {
		return wait
	}
	s.next = now.Add(TryEvery)
	if !now.Before(s.until) {
		s.next = now.Add(answerTime)
	}
	return 0
}

// Hear takes in what a registry answered. It gives the end of a pause that other replicas should know of; zero for none.
func (s *State) Hear(reply Reply, now time.Time) (tell time.Time) {
	if reply.Left.Known {
		s.left = reply.Left
	}
	if reply.Refused {
		return s.refuse(reply, now)
	}
	if s.paused && reply.Sent.Before(s.began) {
		return time.Time{} // it was sent before, and says nothing of the pause
	}
	if s.paused {
		s.answered(reply, now)
	}
	s.refusals = 0
	if reply.Left.Known && reply.Left.Remaining <= 0 && !now.Before(s.doubted) {
		s.pause(now, min(max(time.Second, reply.Left.Reset), MaxEmpty), empty)
	}
	return time.Time{}
}

// answered ends a pause by a try that was answered, and remembers who was wrong.
func (s *State) answered(reply Reply, now time.Time) {
	s.paused = false
	switch {
	case s.why == told:
		s.deaf = now.Add(DeafFor)
	case s.why == empty && reply.Left.Known && reply.Left.Remaining <= 0:
		s.doubted = now.Add(DoubtFor)
	}
}

func (s *State) refuse(reply Reply, now time.Time) (tell time.Time) {
	if s.paused && reply.Sent.Before(s.began) && reply.RetryAfter < 0 {
		return time.Time{} // one of those that were under way together
	}
	pause := min(reply.RetryAfter, MaxPause)
	if reply.RetryAfter < 0 {
		s.refusals++
		pause = min(firstPause<<min(s.refusals-1, 20), TryEvery)
	}
	if s.paused && s.why == refused && s.until.After(now.Add(pause)) && reply.Sent.Before(s.began) {
		return time.Time{} // it said longer before
	}
	s.pause(now, pause, refused)
	return s.until
}

func (s *State) pause(now time.Time, pause time.Duration, why cause) {
	s.paused, s.why, s.began, s.until = true, why, now, now.Add(pause)
	s.next = now.Add(min(pause, TryEvery))
}

// Told takes in that another replica was told to make a pause. Each pause counts once, and for a short time, since whoever tells
// of it may be wrong.
func (s *State) Told(until, now time.Time) {
	if !until.After(s.heard) || !until.After(now) || now.Before(s.deaf) || s.paused {
		return
	}
	s.heard = until
	s.pause(now, min(until.Sub(now), MaxHeard), told)
}

// Left is what is left, as the registry said last.
func (s *State) Left() Left { return s.left }

// Until is the end of the pause; zero where there is none.
func (s *State) Until(now time.Time) time.Time {
	if !s.paused || !s.until.After(now) {
		return time.Time{}
	}
	return s.until
}
