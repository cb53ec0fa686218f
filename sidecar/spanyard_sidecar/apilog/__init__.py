"""Capture `api`: container logs by way of the Kubernetes API, where the node's files are not to be
had. What it promises, and why less, is in docs/capture.md."""
