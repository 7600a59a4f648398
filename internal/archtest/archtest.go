// Package archtest holds the architecture as tests: who may import whom, which
// imports are forbidden and why, and that every package explains itself. There
// is nothing to import here; read archtest_test.go.
package archtest
