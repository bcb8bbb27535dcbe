"""python -m lava_conv.cli"""

from lava_conv.cli import main

if __name__ == "__main__":
    main()
