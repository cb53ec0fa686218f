"""Who asks (Kubernetes tokens, sessions, a proxy's word) and what they may (Kubernetes' RBAC)."""
