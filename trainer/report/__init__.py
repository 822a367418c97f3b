"""report.html: what a model was measured to do, on one page that needs no network."""
