"""`glm5`: start every role on this machine, look at them, talk to them, measure them, check checkpoints."""
