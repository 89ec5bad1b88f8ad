// Package fair shares bounded resources between tenants, so that the burst of one does not starve another.
//
// A [Queue] bounds how much work runs at once: callers [Queue.Acquire] a seat, wait in a queue of their tenant when none
// is free, and [Queue.Release] it. A [ByteBudget] bounds memory: callers acquire a number of bytes out of their tenant's
// budget and the common one. A [Limiter] bounds work at once where there are no tenants to tell apart.
package fair
