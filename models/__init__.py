"""Floor 1: towers, bridges, text encoders, codecs and the joint model that runs them."""
