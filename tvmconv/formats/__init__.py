"""What compiler and runtime both read: manifests, facts about kernels, CPU features, tuning logs. No TVM."""
