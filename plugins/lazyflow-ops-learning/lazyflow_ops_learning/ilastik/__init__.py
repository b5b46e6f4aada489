"""Projects of ilastik: read with h5py alone, and computed with operators of ours."""
