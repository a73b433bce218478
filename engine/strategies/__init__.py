"""engine room: the strategies that come with Tickring; real ones to run and to read."""
