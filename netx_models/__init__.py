"""The model zoo: trained `.net` files, each with a card and a golden trace; made by `benchmarks/zoo.py`."""
