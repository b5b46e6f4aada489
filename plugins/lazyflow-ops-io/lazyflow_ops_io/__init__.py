"""Files as arrays: readers and writers for HDF5, OME-Zarr, TIFF and NPY, and the operator that reads them."""
