"""RawBoost, the augmentation of raw waveforms: begin with `algorithms`."""
