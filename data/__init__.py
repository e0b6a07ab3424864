"""Data sets, splits and the one preprocessing that training, calibration, measuring and the device share."""
