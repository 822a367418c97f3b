"""Finds out by trying whether a server speaks TLS."""

import socket
import ssl

from serving.network.server_address import hosts_of

_TIME_OUT_S = 2.0


def speaks_tls(target: str) -> bool:
    """Does the first server of a gRPC target answer a greeting of TLS? False also where it does not answer at all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent, so there is nothing to verify
    context.set_alpn_protocols(["h2"])
    for host, port in hosts_of(target)[:1]:
        try:
            with socket.create_connection((host, port), _TIME_OUT_S) as plain, context.wrap_socket(plain):
                return True
        except ssl.SSLError as error:
            return "ALERT" in (error.reason or "")  # it refuses us, in TLS
        except (OSError, UnicodeError):
            return False
    return False
