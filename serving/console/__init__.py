"""What commands share: options and their flags, help, streams, terminal, waits that are told of."""
