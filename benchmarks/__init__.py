"""Benchmarks: run by hand or by `make bench`; each prints a table and compares within one run."""
