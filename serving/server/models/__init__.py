"""Models in the server: which are served, how versions are loaded and run, batching."""
