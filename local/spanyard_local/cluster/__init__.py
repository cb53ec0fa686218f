"""A cluster's gateway as the command line reaches it: by a kubeconfig, without kubectl."""
