"""What commands share: streams, terminal, signals, types of flags, child processes."""
