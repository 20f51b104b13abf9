"""The dispatcher: who may run now, on which decode worker, and what happens when that worker is lost."""
