"""A folder for each family of models, and what they share: layers, protocols of towers, models of towers."""
