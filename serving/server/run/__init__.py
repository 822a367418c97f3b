"""Ways to run the server: in this process, as a child process, as a command."""
