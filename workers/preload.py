"""workers room: what the forkserver imports before it forks: everything, compiled and loaded.

Importing this module does the work on purpose: the forkserver offers no other moment.
"""

from __future__ import annotations

from workers.warm import compile_all

compile_all()
