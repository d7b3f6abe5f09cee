"""LoRA: small changes to linear layers, read from the files users have and laid beside the layers they change."""
