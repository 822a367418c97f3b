"""The client on the user's machine: submits manifests, waits, explains."""
