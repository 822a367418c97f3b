"""How a server's address may be spelt, and what is said to who spells it otherwise."""

import pytest

from serving.errors import UsageError
from serving.network.server_address import hosts_of, is_loopback, target_of


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("http://localhost:8500", "localhost:8500"),
        ("https://serving:443/v1/models", "serving:443 `tls`"),
        ("grpc://serving:8500", "serving:8500"),
        ("http://serving:8501/v1/models/dogs", "serving:8500"),
        ("http://[::1]:8500/", "[::1]:8500"),
        ("user:hunter2@serving:8500", "serving:8500"),
        ("http://user:hunter2@serving", "serving:8500"),
        ("serving:8500/dogs", "serving:8500"),
        (" serving:8500", "serving:8500"),
        ("serving: 8500\n", "serving:8500"),
        ("serving 9000", "serving:9000"),
        ("serving", "serving:8500"),
        ("serving:", "serving:8500"),
        ("serving:0", "serving:8500"),
        ("serving:70000", "serving:8500"),
        ("::1", "[::1]:8500"),
        ("::1:8500", "[::1]:8500"),
        ("dns:///serving", "serving:8500"),
        ("bücher.example:8500", "xn--bcher-kva.example:8500"),
    ],
)
def test_what_is_no_address_is_refused_with_the_one_that_is_meant(address: str, meant: str) -> None:
    with pytest.raises(UsageError) as error:
        target_of(address)
    assert f"do you mean `server` {meant}?" in str(error.value)
    assert "hunter2" not in str(error.value)
    target_of(meant.removesuffix(" `tls`"))  # and that one is right


@pytest.mark.parametrize("address", ["", ":8500", "a:1,,b:2", "a:1,b:2", "serving:٣", "unix:", "1.2.3.4:1,[::1]:1"])
def test_what_can_mean_anything_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="`server`"):
        target_of(address)


def test_the_hosts_of_a_target() -> None:
    assert hosts_of("ipv6:[::1]:1,[fe80::1]:2") == [("::1", 1), ("fe80::1", 2)]
    assert hosts_of("dns://8.8.8.8/serving:8500") == [("serving", 8500)]
    assert hosts_of("unix:/run/serving.sock") == []


@pytest.mark.parametrize(
    ("host", "is_own"), [("localhost", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False), ("a.b", False)]
)
def test_this_machine_s_own_addresses(host: str, is_own: bool) -> None:
    assert is_loopback(host) is is_own
