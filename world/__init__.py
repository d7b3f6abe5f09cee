"""The procedural sounding world: small clips whose sound comes from what is seen, with exact event times."""
