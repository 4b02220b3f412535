// Package proc reads /proc/PID: what the kernel tells about a task in text
// form. It runs while tasks are frozen, so every parser works on bytes, files
// are opened relative to the task's directory, and buffers are reused.
//
// An open Dir keeps meaning the same process: when that has been reaped,
// reads fail with ErrGone, also if its number has been given away again.
package proc
