"""report.html: what a prediction run found, on one page that needs no network."""
