"""The guard catches what it is there for; without this the guarded tests would prove nothing."""

import guard
import numpy as np
import pytest


@pytest.mark.parametrize("at", ["start", "end"])
def test_one_element_outside_is_fatal(at):
    with pytest.raises(AssertionError, match=rf"died of SIG(SEGV|BUS).*\n.*inside\noutside {at} 1\n"):
        guard.in_child(guard.read_one_past, at, 1)
    assert "survived" in guard.in_child(guard.read_one_past, at, 0)


def test_write_to_a_read_only_copy_is_fatal():
    with pytest.raises(AssertionError, match="died of SIG"):
        guard.in_child(guard.write_to_input)


@pytest.mark.parametrize("at", ["start", "end"])
@pytest.mark.parametrize("offset", [0, 4, 60])
@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025])
def test_place(at, offset, count):
    array = guard.guarded((count,), at=at, offset=offset)
    array[:] = 3
    address = array.ctypes.data
    assert (address if at == "start" else -(address + array.nbytes)) % guard.PAGE == offset
    assert guard.outside_untouched(array)


def test_bytes_written_beside_the_array_show():
    array = guard.guarded((8,), at="start", offset=8)
    np.frombuffer(array.base, np.uint8)[guard.PAGE + 7] = 0
    assert not guard.outside_untouched(array)


@pytest.mark.parametrize("offset", range(0, 64, 4))
def test_aligned(offset):
    array = guard.aligned_copy(np.arange(7, dtype=np.float32), offset=offset)
    assert array.ctypes.data % 64 == offset and array.tolist() == list(range(7))
