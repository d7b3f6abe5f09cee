"""What picture and sound share, as vectors a moment of the clip (SAVA, Selective Audio-Visual Alignment)."""
