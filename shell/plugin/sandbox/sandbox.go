// Package sandbox starts a program that is not trusted: a plugin that verifies signatures, which may be exploited by what it fetches.
//
// A started program
//
//   - gains no privileges by what it executes, and has no capabilities, whatever its user is;
//   - reads, executes and writes what its [Policy] names, and nothing else (Landlock);
//   - connects by TCP to the ports of its policy, and waits for no connection; it signals nobody outside (Landlock, seccomp);
//   - makes the system calls that programs need for computation, files and connections, and no other (seccomp);
//   - has bounds on its memory, files, processes and processor time, which hold before its first instruction (rlimits, ptrace);
//   - is killed with all its children and grandchildren, also those that left its session, when [Process.End] is called, and when
//     the service ends.
//
// The restrictions are put on an operating system thread that exists for this one program, which inherits them. So no second
// program is needed to set them up. What the kernel lacks, [Probe] tells.
package sandbox

import "time"

// Mode is what happens where the kernel cannot confine.
type Mode string

// Modes. The zero value is Prefer.
const (
	Prefer  Mode = ""        // confine by what there is
	Require Mode = "require" // start nothing where something essential is missing
	Off     Mode = "off"     // do not confine. Dangerous: a plugin then reads what the service reads
)

// Policy is what a program may do. The zero value permits nothing.
type Policy struct {
	Execute []string      // files and folders that may be read and executed; those that do not exist are passed over
	Read    []string      // files and folders that may be read
	Write   []string      // files and folders that may be read, written, and have files made and removed in them
	Ports   []uint16      // to which TCP connections may be made; those of DNS are added
	Time    time.Duration // of the processor; rounded up to seconds. 0 is no bound
}

// Bounds of a program.
const (
	maxData      = 512 << 20 // bytes of private memory that can be written
	maxAddresses = 4 << 30   // bytes of addresses, of which Go's runtime reserves many without using them
	maxFileSize  = 64 << 20  // bytes of one file
	maxFiles     = 256       // open at once
	maxProcesses = 32768     // of the program's user: the kernel counts those of other containers, and threads, together with them
)

// Support is what the kernel offers.
type Support struct {
	Essential []string // features without which a program cannot be confined, and that are missing; none when it can
	Further   []string // other features that are missing
}
