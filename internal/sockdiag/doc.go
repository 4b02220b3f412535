// Package sockdiag asks the kernel about sockets through sock_diag(7): what no
// descriptor tells (peers, connections that wait to be accepted, memory in
// use), and for all sockets of a network namespace in one request.
//
// The answers are pictures of a moment: they are only worth something for
// sockets whose users stand still. Decoders work on bytes alone and believe
// nothing.
package sockdiag
