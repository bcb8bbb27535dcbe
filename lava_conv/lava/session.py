"""`watched`: compile a Lava network, run it in a watched runtime, and leave nothing behind."""

import lava_conv.lava.start  # noqa: F401  before Lava

# isort: split
import contextlib
import logging
import warnings
from collections.abc import Iterator

from lava.magma.core.process.process import AbstractProcess, LogConfig, ProcessServer
from lava.magma.core.process.variable import VarServer
from lava.magma.core.run_configs import RunConfig

from lava_conv.errors import BackendError
from lava_conv.lava.children import check_timeout
from lava_conv.lava.runtime import WatchedRuntime
from lava_conv.lava.types import LavaObject


def _forget(processes: list[AbstractProcess]) -> None:
    """Take finished processes off Lava's global lists, which otherwise keep every one of them for ever."""
    ours = {id(process) for process in processes}
    registry: LavaObject = ProcessServer()
    registry.processes[:] = [process for process in registry.processes if id(process) not in ours]
    variables: LavaObject = VarServer()
    variables.vars[:] = [var for var in variables.vars if id(var._process) not in ours]
    root, theirs = logging.getLogger(), LogConfig().format
    for handler in list(root.handlers):  # every Lava process adds one more to the root logger
        if type(handler) is logging.StreamHandler and handler.formatter and handler.formatter._fmt == theirs:
            root.removeHandler(handler)


@contextlib.contextmanager
def watched(process: AbstractProcess, run_cfg: RunConfig, timeout: float = 60.0) -> Iterator[WatchedRuntime]:
    """Compile `process` and all that is connected to it, and run it safely:

        with watched(neuron, Loihi2SimCfg(select_tag="fixed_pt")) as runtime:
            runtime.run(10);  neuron.v.get();  runtime.run(10)

    On leaving the block, however it is left, no process and no shared memory remains.

    Args:
        process: any process of the network.
        run_cfg: Lava's run configuration, e.g. Loihi2SimCfg or `processes.conv.fast_sim_cfg()`.
        timeout: seconds without movement after which a run is given up.

    Raises:
        RangeError: `timeout` is no number above 0.
        BackendError: Lava cannot compile the network; or what WatchedRuntime raises.
    """
    check_timeout(timeout)
    runtime: WatchedRuntime | None = None
    try:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Lava's, about optional packages
                executable = process.compile(run_cfg)
        except Exception as error:
            raise BackendError(f"Lava cannot compile the network: {' '.join(str(error).split())}") from error
        runtime = WatchedRuntime(executable, timeout)
        for builder in executable.proc_builders.values():
            if hook := getattr(builder.proc_model, "before_fork", None):  # as the models of our neurons have it
                hook(builder.proc_params)
        process._runtime = runtime
        executable.assign_runtime_to_all_processes(runtime)
        runtime.initialize()
        yield runtime
    finally:
        if runtime is not None:
            runtime.stop()
            _forget(list(runtime._executable.proc_builders))
