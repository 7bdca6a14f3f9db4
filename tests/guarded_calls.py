"""Run every function of a library with each of its buffers against a guard page. For a child process:
numpy and ctypes only, through the C interface, because there the packed weights are a buffer like the others.
"""

import ctypes

import numpy as np
from checking import assert_right, random_arrays
from guard import guarded, guarded_copy, outside_untouched

from tvmconv.spec import ConvSpec


def run_guarded(library, descriptors):
    """``descriptors``: function name -> descriptor. Prints each case before it runs it."""
    lib = ctypes.CDLL(library)
    for name, descriptor in descriptors.items():
        spec = ConvSpec.parse(descriptor)
        for at in ("end", "start"):
            for fill in ("integer", "normal"):
                print(f"{name} {descriptor} {fill}, buffers flush with the {at}", flush=True)
                call_guarded(lib, name, spec, at, fill)


def call_guarded(lib, name, spec, at, fill):
    x, w, bias = (None if a is None else guarded_copy(a, at=at) for a in random_arrays(spec, fill))
    packed_bytes = getattr(lib, f"{name}_packed_bytes")
    packed_bytes.restype = ctypes.c_size_t
    # A multiple of 64 bytes, so that it can be flush with either page and aligned as it has to be.
    assert packed_bytes() % 64 == 0
    packed = guarded((packed_bytes(),), np.uint8, at=at)
    _call(lib, f"{name}_prepack", w, bias, packed)
    frozen = guarded_copy(packed, at=at)
    y = guarded(spec.output_shape, at=at)
    _call(lib, name, x, frozen, y)
    assert outside_untouched(packed), f"{spec}: written outside of the packed weights"
    assert outside_untouched(y), f"{spec}: written outside of the result"
    assert_right(spec, y, x, w, bias, fill)


def _call(lib, symbol, *arrays):
    function = getattr(lib, symbol)
    function.argtypes = (ctypes.c_void_p,) * len(arrays)
    status = function(*(None if a is None else a.ctypes.data for a in arrays))
    last_error = lib.tvmconv_last_error
    last_error.restype = ctypes.c_char_p
    assert status == 0, f"{symbol}: {status}, {last_error()}"
