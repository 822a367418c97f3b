"""How a server is reached: addresses, proxies, TLS."""
