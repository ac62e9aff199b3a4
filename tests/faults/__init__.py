"""The project under fault: damaged and hostile input."""
