"""Manifests of pods as pure functions, dict in, dict out."""
