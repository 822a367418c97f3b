"""Which wire form a run takes where the user leaves it open: files for a server on this machine, else pixels."""

from typing import NamedTuple

from serving.client.discovery import choose_wire
from serving.contract import ModelContract
from serving.images.limits import ImageLimits
from serving.images.wire import Wire, WireOrAuto
from serving.network.server_address import hosts_of, is_loopback, target_of


class ChosenWire(NamedTuple):
    """A wire form that the model has."""

    wire: Wire
    why: str
    """The reason, in words; empty where there is no choice."""


def choose(contract: ModelContract, wanted: WireOrAuto, address: str, limits: ImageLimits) -> ChosenWire:
    """The wire form of a run.

    On one machine an image is best decoded once, by the server: its graph does it faster than a client can, and nothing
    but the file travels. The CPUs beside a remote server's GPU are scarce, so there the client decodes.

    Args:
      contract: of the model.
      wanted: by the user.
      address: of the server.
      limits: of the run; the server has those that the model was exported with.

    Raises:
      ContractError: the model has not the wire form that the user wants, or none.
    """
    if wanted != "auto":
        return ChosenWire(choose_wire(contract, wanted), "")
    usual = choose_wire(contract, None)
    if len(contract.signatures) == 1:
        return ChosenWire(usual, "")
    if not contract.takes_any_file:
        return ChosenWire(usual, "the first that the model has")
    if not _is_here(address):
        return ChosenWire(usual, "the server is on another machine, whose CPUs are left alone")
    at_export = ImageLimits()
    if limits.max_image_bytes > at_export.max_image_bytes or limits.max_image_pixels > at_export.max_image_pixels:
        return ChosenWire(usual, "the server would refuse the largest images that are allowed here")
    return ChosenWire("encoded", "the server is on this machine and decodes faster")


def _is_here(address: str) -> bool:
    """Is the server on this machine, as its address says?"""
    target = target_of(address)
    hosts = [host for host, _ in hosts_of(target)]
    return target.startswith("unix") or (bool(hosts) and all(map(is_loopback, hosts)))
