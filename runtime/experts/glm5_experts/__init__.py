"""An experts shard: rows of any attention worker in, outputs of the experts held here out. Stateless."""
