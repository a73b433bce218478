"""workers room: processes, and everything that touches the outside world."""
