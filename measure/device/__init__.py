"""Measuring on a device over ssh: what runs here. export/device/over_ssh.py is what runs there."""
