"""A driver that can be killed: python generate_once.py '{"model": …, "out": …}'."""

import json
import sys

from dpmsolver.generation.generating import generate

if __name__ == "__main__":
    generate(**json.loads(sys.argv[1]))
