"""config room: a user's TOML file becomes checked settings."""
