"""Bench rivals: everything that `tickring bench ring` measures beside ours, and what each needs."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from bench.rivals import installed_channels as installed
from bench.rivals import standard_channels as standard
from bench.support import python_face
from bench.support.channel_runs import Make


@dataclass(frozen=True)
class Rival:
    """A channel with two Python ends.

    package: what is imported, "" for the standard library; distribution: what pip installs.
    """

    name: str
    make: Make
    package: str = ""
    distribution: str = ""


TICKRING_PYTHON = Rival("tickring_python", python_face.channel)
RIVALS = (
    Rival("mp_queue", standard.mp_queue),
    Rival("mp_simple_queue", standard.mp_simple_queue),
    Rival("mp_pipe", standard.mp_pipe),
    Rival("os_pipe", standard.os_pipe),
    Rival("faster_fifo", installed.faster_fifo, "faster_fifo", "faster-fifo"),
    Rival("pyzmq", installed.pyzmq, "zmq", "pyzmq"),
    Rival("iceoryx2", installed.iceoryx2, "iceoryx2", "iceoryx2"),
    Rival("membridge", installed.membridge, "membridge", "membridge"),
    Rival("subetha", installed.subetha, "subetha", "subetha-ipc"),
    Rival("zeroq", installed.zeroq, "zeroq", "zeroq"),
    Rival("cloudtoid", installed.cloudtoid, "cloudtoid_interprocess", "cloudtoid-interprocess"),
    Rival("pyaeron", installed.pyaeron, "pyaeron", "pyaeron, from CPython 3.12 on"),
)


def why_not(rival: Rival) -> str:
    """Answers why a rival cannot run here, "" when it can."""
    if not rival.package or importlib.util.find_spec(rival.package):
        return ""
    return f"not installed: pip install {rival.distribution}"
