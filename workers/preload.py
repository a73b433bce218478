"""workers room: what the forkserver imports before it forks: everything, compiled and loaded.

Importing this module does the work on purpose: the forkserver offers no other moment. It ignores
the signals that ask for the end first: without a forkserver no worker comes back, and its end takes
every worker along.
"""

from __future__ import annotations

from workers import stopsignals
from workers.warm import compile_all

stopsignals.ignore()
compile_all()
