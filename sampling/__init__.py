"""Floor 1, the sampler: noise, schedules, guidance and the denoising loop. Meets other rooms only through core."""
