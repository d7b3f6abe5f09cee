"""Floor 0: values, time, roles, registries and errors. Needs torch and the standard library only."""
