"""shm room: bytes between processes; knows nothing of trading."""
