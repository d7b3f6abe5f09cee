"""Floor 3: training of bridges, towers and codecs: configuration, recipes, data, objectives and the loop."""
