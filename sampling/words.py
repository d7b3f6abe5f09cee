"""Words and ranges of the sampler's options; importing them imports nothing heavy, so that a command can list them."""

from __future__ import annotations

BATCHING = ("auto", "batched", "sequential")
UNCONDITIONAL = ("texts", "alone")
FLOW_SIGMAS = ("diffusers-0.36", "diffusers-0.37")
AUTO = "auto"
MAX_SEED = 2**64 - 1
MAX_STEPS = 1000
MAX_SCALE = 100.0
MAX_EVERY = 20
MAX_WINDOW_SECONDS = 600.0
MIN_FLOW_SHIFT, MAX_FLOW_SHIFT = 0.1, 100.0
MIN_BEND, MAX_BEND = 0.5, 2.0
