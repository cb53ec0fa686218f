"""OTLP/HTTP receiver: requests become lines in an append log, acknowledged after its fsync."""
