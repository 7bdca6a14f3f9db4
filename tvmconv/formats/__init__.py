"""What compiler and runtime both read: manifests, facts of kernels, CPU features, tuning logs. No TVM."""
