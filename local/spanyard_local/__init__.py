"""The laptop: the spanyard command, and everything in one process."""
