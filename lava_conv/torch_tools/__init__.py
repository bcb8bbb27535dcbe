"""What torch needs to be safe and repeatable here: convolutions, devices, random numbers, checkpoints."""
