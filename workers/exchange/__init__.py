"""workers room: the built-in exchange, which speaks Binance spot's protocol on loopback."""
