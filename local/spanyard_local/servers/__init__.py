"""Deployments on this machine: replicas as supervised processes behind a stable port."""
