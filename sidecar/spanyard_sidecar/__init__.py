"""The collector: tails stdout and span files, takes OTLP, spools, uploads."""
