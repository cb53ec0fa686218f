"""The webhook that adds the collector to pods that Spanyard did not make, when they ask for it."""
