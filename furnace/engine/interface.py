"""By which network interface the machines of a run reach each other."""

import fcntl
import ipaddress
import os
import socket
import struct
from contextlib import suppress

from furnace.engine.board import Board

ADDRESS_OF_INTERFACE = 0x8915  # SIOCGIFADDR of Linux


def choose_interface(board: Board, rank: int, size: int) -> None:
    """Tells gloo and NCCL by which interface the others reach this process, unless the environment says it already.

    Gloo by itself would take the interface that the machine's name stands for, and NCCL any one; other machines often
    cannot reach these. The way to MASTER_ADDR is one that serves all. The first machine, however, may know MASTER_ADDR
    for itself alone: Debian's and Ubuntu's machines have 127.0.1.1 for their own name. It then takes the way to another
    machine. Processes of one machine talk to themselves, and NCCL needs no advice for that.

    Args:
        board: where all processes of this start read what one has written.
        rank: of this process.
        size: the number of processes.
    """
    own = address_towards(os.environ.get("MASTER_ADDR", ""))
    board.set(f"address/{rank}", own)
    if is_loopback(own):
        found = [board.get(f"address/{other}").decode() for other in range(size)]
        elsewhere = next((address for address in found if address and not is_loopback(address)), None)
        own = address_towards(elsewhere) if elsewhere else own  # all of them on this machine: as it is
    if name := interface_of(own):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        if not is_loopback(own):
            os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={name}")  # without the sign, longer names would do too


def address_towards(address: str) -> str:
    """Returns the address by which this machine reaches another one; an empty text if it does not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 1))  # this only chooses a way; nothing is sent
        except OSError:
            return ""
        return probe.getsockname()[0]


def is_loopback(address: str) -> bool:
    """Whether a machine reaches none but itself by its address."""
    return bool(address) and ipaddress.ip_address(address).is_loopback


def interface_of(address: str) -> str | None:
    """Returns the name of the network interface that has this address; None if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # the interface has no address
                answer = fcntl.ioctl(probe, ADDRESS_OF_INTERFACE, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return None
