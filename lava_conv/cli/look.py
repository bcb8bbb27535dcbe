"""Commands that look at a file or at this machine: inspect, validate, bench."""

import json
import subprocess
import sys
from pathlib import Path

import click

from lava_conv.cli.options import json_option
from lava_conv.cli.screen import complain, err, out
from lava_conv.errors import LavaConvError


@click.command()
@click.argument("net", type=click.Path())
@json_option
def inspect(net: str, as_json: bool) -> None:
    """Show what a .net file holds: layers, neurons, weights, proven bounds.

    \b
    lava-conv inspect digits.net
    lava-conv inspect digits.net --json | jq .layers

    Of a stock netx file (lava-dl's) what it holds, and what of it cannot be run here.
    """
    import numpy as np

    import lava_conv as lc
    from lava_conv.netx.stock import is_stock

    if is_stock(net):
        _inspect_stock(net, as_json)
        return
    graph = lc.load(net)
    if as_json:
        bounds = graph.bounds()
        layers = []
        for index, layer in enumerate(graph.layers):
            entry: dict[str, object] = {"type": layer.kind, "shape": list(layer.shape), "neuron": layer.neuron or None}
            if layer.synapse is not None:
                b = bounds[index]
                entry["weights"] = int(layer.synapse.weight.size)
                entry["v_max"] = int(max(np.abs(b.v_min).max(), np.abs(b.v_max).max()))
            layers.append(entry)
        summary = {"net": net, "steps": graph.steps, "input_code": graph.input_code, "layers": layers}
        click.echo(json.dumps(summary | {"generator": graph.generator, "labels": list(graph.labels)}))
        return
    out.print(f"{net}, written by {graph.generator}")
    out.print(graph.summary())
    for index, layer, neuron in graph.neuron_layers():
        values = {n: np.asarray(getattr(layer.params, n)) for n in neuron.channel_fields + neuron.scalar_fields}
        parts = [f"{n} {int(v.min())}" + ("" if v.min() == v.max() else f"..{int(v.max())}") for n, v in values.items()]
        out.print(f"layer {index} {layer.neuron}: {', '.join(parts)}")


def _inspect_stock(net: str, as_json: bool) -> None:
    from lava_conv.netx.stock import describe, table

    found = describe(net)
    if as_json:
        layers = [layer._asdict() for layer in found.layers]
        click.echo(json.dumps({"net": net, "stock": True, "layers": layers, "problems": found.problems}))
        return
    out.print(f"{net}, a stock netx file of {len(found.layers)} layers")
    out.print(table(found))
    out.print("cannot be run here:")
    for problem in found.problems:
        out.print(f"  {problem}")


@click.command()
@click.argument("nets", type=click.Path(), nargs=-1, required=True)
@json_option
def validate(nets: tuple[str, ...], as_json: bool) -> None:
    """Check .net files against the format and the 24-bit bounds; one line each, exit code 2 if any fails.

    \b
    lava-conv validate netx_models/*.net

    Of a stock netx file (lava-dl's), which cannot be run here, every reason is told.
    """
    found = []
    for net in nets:
        one = _validated(net)
        found.append(one)
        if one["valid"] and not as_json:
            told = f"valid, {one['layers']} layers, states fit 24 bits for {one['steps']} steps"
            out.print(f"{net}: {told}")
    if as_json:
        click.echo(json.dumps(found))
    if not all(one["valid"] for one in found):
        raise click.exceptions.Exit(2)


def _validated(net: str) -> dict[str, object]:
    """What is to be said of one file; errors are shown at once."""
    import lava_conv as lc
    from lava_conv.netx.stock import describe, is_stock

    try:
        if is_stock(net):
            found = describe(net)
            fine = [index for index, layer in enumerate(found.layers) if not layer.problems]
            complain(f"{net}: a stock netx file, which cannot be run here; convert its model with lava-conv")
            err.print(f"  supported as they are: layers {', '.join(map(str, fine)) or 'none'}")
            for problem in found.problems:
                err.print(f"  {problem}")
            return {"net": net, "valid": False, "stock": True, "supported": fine, "problems": found.problems}
        graph = lc.load(net)
        graph.check()
    except LavaConvError as error:
        sentence = str(error) if net in str(error) else f"{net}: {error}"
        complain(sentence)
        return {"net": net, "valid": False, "problems": [sentence]}
    return {"net": net, "valid": True, "layers": len(graph.layers), "steps": graph.steps}


BENCHMARKS = {"simulator": "simulator_speed.py", "lava": "lava_speed.py", "scaling": "scaling.py"}


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("which", type=click.Choice(list(BENCHMARKS)))
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def bench(which: str, options: tuple[str, ...]) -> int:
    """Measure speed on this machine, everything side by side in one run: medians, ratios, the machine.

    \b
    lava-conv bench simulator lenet vgg11   against ANN passes and, where installed, SpikingJelly and snnTorch
    lava-conv bench lava lenet              stock Lava, fast models, watched runtime
    lava-conv bench scaling --picture s.png how time grows with steps, batch, spikes, width

    Further options go to the script, which lies in benchmarks/ and says more with `-- --help`. Peers are the extra
    `peers`: pip install lava-conv[peers].
    """
    here = Path(__file__).parent.parent
    folders = (here.parent / "benchmarks", here / "benchmarks")  # of the repository, of an installed package
    script = next((f / BENCHMARKS[which] for f in folders if (f / BENCHMARKS[which]).is_file()), None)
    if script is None:
        raise click.UsageError(f"{BENCHMARKS[which]} is not in {folders[0]} nor in {folders[1]}; install again")
    return subprocess.run([sys.executable, str(script), *options], check=False).returncode
