"""The services of the full profile on this machine, without containers: installed, started, watched and stopped."""
