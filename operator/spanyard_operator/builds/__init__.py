"""Builds in a cluster: each attempt is a pod, and everything else follows from what is seen of it.

Nothing is remembered that is not in the API server. A pod's name follows from build and attempt, and
the pod is made before the status says that it runs. So whoever comes after a killed operator sees
either the pod, and goes on with it, or none, and makes it: never two.
"""
