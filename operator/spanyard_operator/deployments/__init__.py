"""A Deployment of ours in a cluster: manifests, what is seen of them, and the reconciler.

The apps controller does the rollout; this says what is to run, and tells what became of it.
"""
