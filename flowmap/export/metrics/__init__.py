"""Every metric as data: its name, help, labels and where its value comes from."""
