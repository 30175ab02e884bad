"""Generation of many samples: they are cut into shards of consecutive seeds, which any number of workers draws.

The bytes of the result do not depend on the number of workers or on interruptions.
"""
