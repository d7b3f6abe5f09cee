"""Floor 1, the captions: a short prompt becomes a seen and a heard caption, through semantic anchors (CRR)."""
