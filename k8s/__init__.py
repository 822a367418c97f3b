"""Flow Images on Kubernetes: the manifests, and a small client that submits them, waits and explains."""
