"""The operator: Projects, Builds and Deployments into pods."""
