"""Trains recipes in float64, alone or under torchrun: joint_train.py OUT RECIPES. For test_distributed.py."""

import json
import sys
from dataclasses import replace

import torch

from lava_conv.training.data import load_dataset
from lava_conv.training.distributed import team
from lava_conv.training.loop import Recipe, train

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
data = load_dataset("digits")
data = replace(data, x_train=data.x_train[:200], y_train=data.y_train[:200])
results = {}
with team() as members:
    for name, recipe in json.loads(sys.argv[2]).items():
        trained = train(data, Recipe.flat(**recipe), members=members)
        everywhere = members.gather({key: value.clone() for key, value in trained.model.state_dict().items()})
        if members.first:
            same = (torch.equal(v, other[k]) for other in everywhere[1:] for k, v in everywhere[0].items())
            assert all(same), f"{name}: the processes hold other weights"
            results[name] = {"model": everywhere[0], "losses": trained.losses}
if members.first:
    torch.save(results, sys.argv[1])
