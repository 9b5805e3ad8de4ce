"""Where training runs: devices, precision, processes, seeds, files. No models, no losses."""
