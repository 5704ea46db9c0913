"""The event log: ordered, partitioned, with consumers whose effects happen once. Not built yet."""
