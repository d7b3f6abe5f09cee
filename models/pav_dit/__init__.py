"""PAV-DiT: sound as images of frames, an autoencoder of projections, one transformer over all planes."""
