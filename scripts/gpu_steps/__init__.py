"""The steps of gpu_session.py, one file each."""
