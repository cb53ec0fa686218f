"""The three kinds of `spanyard.dev/v1alpha1` and all that is decided about them without I/O.

The laptop's process runner and the cluster's operator share what is in here: field names, the
state machine of builds, revisions of deployments, reasons and conditions.
"""
