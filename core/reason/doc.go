// Package reason has the codes that say why an image is verified or not, and the findings that explain them.
//
// It imports nothing of ours, so that whoever reports a failure can name its code without compiling what judges it.
package reason
