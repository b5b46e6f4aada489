"""What this distribution tells the core. Imports nothing heavy: targets are strings, imported when used."""

from __future__ import annotations

from lazyflow_core.plugins import ReaderSpec, WriterSpec, hookimpl

#: Version of the plugin contract this module was written for.
LAZYFLOW_API = (1, 0)

_HDF5 = ("*.h5", "*.hdf5", "*.hdf", "*.ilp")
_TIFF = ("*.tif", "*.tiff")


@hookimpl
def lazyflow_reader_specs() -> list[ReaderSpec]:
    """Name the kinds of files that are read here."""
    return [
        ReaderSpec(
            "io.hdf5",
            "lazyflow_ops_io.hdf5_reader:open_hdf5",
            patterns=_HDF5,
            # The signature may stand behind a user block of 512, 1024, ... bytes (HDF5 file format, II.A).
            magic=tuple((offset, b"\x89HDF\r\n\x1a\n") for offset in (0, 512, 1024, 2048)),
        ),
        ReaderSpec(
            "io.zarr",
            "lazyflow_ops_io.zarr_reader:open_zarr",
            patterns=("*.zarr",),
            directory=True,
            marker=("zarr.json", ".zarray", ".zgroup"),
        ),
        ReaderSpec(
            "io.tiff",
            "lazyflow_ops_io.tiff_reader:open_tiff",
            patterns=_TIFF,
            magic=tuple((0, m) for m in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
        ),
        ReaderSpec("io.npy", "lazyflow_ops_io.npy:open_npy", patterns=("*.npy",), magic=((0, b"\x93NUMPY"),)),
    ]


@hookimpl
def lazyflow_writer_specs() -> list[WriterSpec]:
    """Name the kinds of files that are written here."""
    return [
        WriterSpec(
            "io.hdf5",
            "lazyflow_ops_io.hdf5_writer:create_hdf5",
            patterns=_HDF5[:3],
            options=("chunks", "compression"),
        ),
        WriterSpec(
            "io.zarr",
            "lazyflow_ops_io.zarr_writer:create_zarr",
            patterns=("*.zarr",),
            options=("chunks", "compression", "zarr_format"),
        ),
        WriterSpec("io.tiff", "lazyflow_ops_io.tiff_writer:create_tiff", patterns=_TIFF),
        WriterSpec("io.npy", "lazyflow_ops_io.npy:create_npy", patterns=("*.npy",)),
    ]


@hookimpl
def lazyflow_conformance_cases() -> str:
    """Name the cases on which users may try our operators."""
    return "lazyflow_ops_io.conformance:CASES"
