"""Many samples: cut into shards of consecutive seeds, drawn by any number of workers, and the same bytes however often they are stopped."""
