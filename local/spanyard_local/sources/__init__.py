"""A folder of this machine as source of a build; the other sources are in `spanyard_sidecar.sources`."""
