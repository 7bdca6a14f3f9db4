"""Load a library and call its functions, with numpy and nothing else."""

from tvmconv.runtime.bound import Bound
from tvmconv.runtime.function import Function
from tvmconv.runtime.gpu.arrays import GpuArray, to_gpu
from tvmconv.runtime.library import Module, load, set_num_threads

__all__ = ["Bound", "Function", "GpuArray", "Module", "load", "set_num_threads", "to_gpu"]
