"""Sources and artifacts of builds: repositories, archives, packing. Programs of the laptop and of a
build's pod use them; the collector imports none of it."""
