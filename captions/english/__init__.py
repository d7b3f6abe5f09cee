"""English for captions: the word lists, the forms of words, and whether a text is English. No backend is needed."""
