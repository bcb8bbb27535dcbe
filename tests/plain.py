"""A network file simulated with h5py and loops alone: shares no line of code with the product."""

import h5py
import numpy as np


def write_random_net(path, rng, input_shape=(2, 9, 7), steps=6, code="flash", skips=False):
    """A `.net` written by hand to section 5 of the design: strides, groups, paddings, non-square, all random."""
    with h5py.File(path, "w") as f:
        f.attrs.update(format="lava-conv", version=1, steps=steps, input_code=code, input_bits=8, generator="a hand")

        def layer(index, kind, shape):
            group = f.create_group(f"layer/{index}")
            group["type"] = np.array([kind.encode()], dtype="S10")
            group["shape"] = np.array(shape)
            return group

        def conv(group, weight, stride, padding, dilation, groups):
            group["weight"] = weight.astype(np.float32)
            group["stride"], group["padding"] = np.array(stride), np.array(padding)
            group["dilation"], group["groups"] = np.array(dilation), groups

        def dtb(group, theta, delta, **scalars):
            group["neuron/type"] = "DTB"
            group["neuron/theta"], group["neuron/delta"] = theta, delta
            for name, value in scalars.items():
                group[f"neuron/{name}"] = value

        layer(0, "input", input_shape)
        c, h, w = input_shape
        one = layer(1, "conv", (4, (h + 2 - 3) // 2 + 1, (w + 4 - 3) // 1 + 1))
        conv(one, rng.integers(-128, 128, (4, c // 2, 3, 3)), (2, 1), (1, 2), (1, 1), 2)
        dtb(one, rng.integers(-2000, 30000, 4), rng.integers(3000, 30000, 4), n_max=4, unipolar=1, shift=0)
        c, h, w = one["shape"][()]
        two = layer(2, "conv", (6, h, w - 2))
        conv(two, rng.integers(-1, 2, (6, 2, 3, 2)), (1, 1), (1, 0), (1, 2), 2)
        dtb(two, rng.integers(-10, 20, 6), rng.integers(1, 12, 6), shift=2)
        if skips:
            skip = two.create_group("skip/0")
            skip["type"], skip["from"] = np.array([b"conv"], dtype="S10"), 0
            conv(skip, rng.integers(-1, 2, (6, 2, 1, 1)), (2, 1), (0, 0), (1, 1), 1)
        c, h, w = two["shape"][()]
        three = layer(3, "conv", (c, h, w))
        conv(three, rng.integers(-3, 4, (c, 1, 3, 3)), (1, 1), (1, 1), (1, 1), c)
        dtb(three, np.int64(3), np.int64(5), n_max=3)
        if skips:
            skip = three.create_group("skip/0")
            skip["type"], skip["from"], skip["scale"] = np.array([b"identity"], dtype="S10"), 2, -2
        layer(4, "flatten", (c * h * w,))
        five = layer(5, "dense", (11,))
        five["weight"] = rng.integers(-128, 128, (11, c * h * w)).astype(np.float32)
        dtb(five, rng.integers(-300, 300, 11), rng.integers(50, 400, 11))
        six = layer(6, "dense", (5,))
        six["weight"] = rng.integers(-128, 128, (5, 11)).astype(np.float32)
        six["neuron/type"], six["neuron/bias"], six["neuron/shift"] = "ACC", rng.integers(-50, 50, 5), 1
    return path


def naive_conv(x, weight, stride, padding, dilation, groups):
    """(C,H,W) -> (O,H',W') by loops over outputs and kernel positions."""
    out_channels, per_group, kh, kw = weight.shape
    x = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2))
    height = (x.shape[1] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    width = (x.shape[2] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    out = np.zeros((out_channels, height, width), np.int64)
    for o in range(out_channels):
        first = o // (out_channels // groups) * per_group
        for i in range(height):
            for j in range(width):
                for a in range(kh):
                    for b in range(kw):
                        pixel = x[
                            first : first + per_group, i * stride[0] + a * dilation[0], j * stride[1] + b * dilation[1]
                        ]
                        out[o, i, j] += int((pixel * weight[o, :, a, b]).sum())
    return out


def naive_run(path, image, steps):
    """Spikes of every layer and the readout, step by step, for one image (C,H,W)."""
    with h5py.File(path) as f:
        code = f.attrs["input_code"]
        groups = [f[f"layer/{i}"] for i in range(len(f["layer"]))]
        layers = [read_layer(group) for group in groups]
    states = [None] * len(layers)
    trace = {i: [] for i, layer in enumerate(layers) if "neuron" in layer}
    for t in range(steps):
        values = [image.astype(np.int64) * (t == 0 or code == "constant")]
        for index, layer in enumerate(layers[1:], 1):
            if layer["type"] == "flatten":
                values.append(values[-1].ravel())
                continue
            drive = synapse(layer, values[-1])
            for skip in layer["skips"]:
                drive = drive + synapse(skip, values[skip["from"]])
            out, states[index] = neuron_step(layer["neuron"], states[index], drive)
            trace[index].append(out)
            values.append(out)
    return {i: np.array(rows) for i, rows in trace.items()}


def read_layer(group):
    layer = {"type": group["type"][0].decode(), "skips": []}
    for name in ("weight", "stride", "padding", "dilation", "groups", "scale", "from"):
        if name in group:
            layer[name] = group[name][()].astype(np.int64)
    if "neuron" in group:
        layer["neuron"] = {k: v[()] for k, v in group["neuron"].items()}
    for number in sorted(group.get("skip", {})):
        layer["skips"].append(read_layer(group["skip"][number]))
    return layer


def synapse(layer, x):
    if layer["type"] == "identity":
        return layer["scale"] * x
    if layer["type"] == "dense":
        return layer["weight"] @ x
    return naive_conv(x, layer["weight"], layer["stride"], layer["padding"], layer["dilation"], int(layer["groups"]))


def neuron_step(p, state, a_in):
    """The equations of section 2 of the design, one neuron at a time."""
    column = (-1,) + (1,) * (a_in.ndim - 1)

    def full(name):
        value = np.asarray(p.get(name, 0), np.int64)
        return np.broadcast_to(value.reshape(column) if value.ndim else value, a_in.shape)

    shift = int(p.get("shift", 0))
    if p["type"] == b"ACC":
        v = (full("bias") if state is None else state) + (a_in << shift)
        return v.copy(), v
    v, n = (np.zeros(a_in.shape, np.int64), np.zeros(a_in.shape, np.int64)) if state is None else state
    v, n, spikes = v + (a_in << shift), n.copy(), np.zeros(a_in.shape, np.int64)
    theta, delta = full("theta"), full("delta")
    n_max, unipolar = int(p.get("n_max", 0)), int(p.get("unipolar", 0))
    for at in np.ndindex(a_in.shape):
        m = max(v[at], theta[at])
        lo = theta[at] + n[at] * delta[at]
        if m >= lo + delta[at] and (n_max == 0 or n[at] < n_max):
            spikes[at] = 1
        elif m < lo and not unipolar:
            spikes[at] = -1
        n[at] += spikes[at]
    return spikes, (v, n)
