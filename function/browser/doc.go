// Package browser has the tests that look at the console with a real Chromium, in a module of its own, which keeps its driver out of
// the service's.
//
// They are skipped, and say so, where there is no chromium. With -screenshots DIR they write the images that the documentation
// shows.
package browser
