"""Plans a run before any accelerator is rented: memory, time and cost of an experiment on a topology."""
