"""Programs that run inside the cluster's pods."""
