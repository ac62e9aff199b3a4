"""From an experiment and a topology to memory, time and cost, before any accelerator is rented."""
