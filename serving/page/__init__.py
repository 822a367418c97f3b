"""What pages for people are made of: each page is one file that needs no network."""
