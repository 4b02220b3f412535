// Package house has nothing but tests: they hold the rules of the house that
// no compiler checks. ARCHITECTURE.md says what the rules are for, and
// CONTRIBUTING.md how to live with them. An exception stands here with its
// reason.
package house
