"""Floor 3: training of bridges. Today: the objectives; the trainer is to come."""
