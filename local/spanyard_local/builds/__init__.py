"""Builds on this machine: fetch, install, build, publish, each a process under a shim."""
