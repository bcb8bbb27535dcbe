"""The model zoo: trained `.net` files with their cards. Empty in this release; `lava-conv demo` makes its own."""
