"""The worker: the child process that holds the model and the device."""
