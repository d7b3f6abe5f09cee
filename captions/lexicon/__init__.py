"""The lexicon backend's grammar and word lists: anchors and captions by rules alone, without a language model."""
