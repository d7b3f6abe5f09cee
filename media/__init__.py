"""Floor 1: clips on disk. Writing with tags inside, reading back with exact counts, fitting sound to picture, plots."""
