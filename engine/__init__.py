"""engine room: trading as pure, deterministic, compiled functions."""
